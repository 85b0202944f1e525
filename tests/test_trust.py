"""`otpseal.trust`, `trust_material`, `public_jwk`: whose key is whose, and what is one.

What certificates must be is in test_certificates.py.
"""

import base64
import contextlib
import json
import secrets

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import KeySet, OKPKey, RSAKey
from openssl_cli import openssl

from otpseal import public_jwk, trust
from otpseal.adapters.file_keys import RsaKeys
from otpseal.certificates import Issuer, der, make_ca, pem
from otpseal.errors import KeyRefused, OtpsealError, PinRefused
from otpseal.trust import Pinned, PinnedAuthority
from otpseal.trust_material import MAX_FILE_BYTES, MAX_KEYS, read, read_file

NOW = 1_800_000_000.0
PEM = serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
ED = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
ED_TOO = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
ML_DSA = MLDSA65PrivateKey.from_seed_bytes(b"\x03" * 32)


def file_of(*keys: public_jwk.VerifyingKey) -> bytes:
    """Return a JWKS of public keys."""
    return json.dumps({"keys": [public_jwk.canonical(key) for key in keys]}).encode()


def pinned(name: str, *keys: public_jwk.VerifyingKey, prefix: str = "") -> Pinned:
    """Return one authority, pinned by its keys."""
    return Pinned([trust.pin(name, prefix, file_of(*keys), now=NOW)], NOW)


def pem_of(key: object) -> bytes:
    """Return a public key's PEM."""
    return key.public_bytes(PEM, SPKI)  # type: ignore[attr-defined, no-any-return]


# Keys in files.


def test_one_key_has_one_form(service_keys: RsaKeys) -> None:
    """A JWKS, a single JWK and a PEM of the same key are kept as the same text."""
    for key in (ED.public_key(), service_keys.public_key, ML_DSA.public_key()):
        jwk = public_jwk.canonical(key)
        expected = json.dumps({"keys": [jwk]}, separators=(",", ":"))

        forms = [
            json.dumps({"keys": [jwk | {"use": "sig", "x5t": "ignored"}]}).encode(),
            b"\xef\xbb\xbf" + json.dumps(jwk, indent=4).encode() + b"\r\n",
            pem_of(key),
            pem_of(key).replace(b"\n", b"\r\n"),
            b"# comment\n" + pem_of(key),
        ]

        assert [expected] * 5 == [read_file(form, now=NOW) for form in forms]


def test_keys_stand_in_one_order() -> None:
    """By thumbprint, whatever order the file has; and come back as they were."""
    keys = [ED.public_key(), ED_TOO.public_key(), ML_DSA.public_key()]

    material = read_file(file_of(*keys), now=NOW)

    assert material == read_file(file_of(*reversed(keys)), now=NOW)
    found = PinnedAuthority("a", "", material).keys
    assert {public_jwk.thumbprint(key): key for key in keys} == found
    assert sorted(found) == list(found)


def test_thumbprints_are_those_of_others(service_keys: RsaKeys) -> None:
    """RFC 8037 appendix A.3 (Ed25519), and joserfc for RSA and Ed25519."""
    raw = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    known = Ed25519PublicKey.from_public_bytes(raw)

    assert "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" == public_jwk.thumbprint(known)
    assert OKPKey.import_key(known).thumbprint() == public_jwk.thumbprint(known)
    rsa_key = service_keys.public_key
    assert RSAKey.import_key(rsa_key).thumbprint() == public_jwk.thumbprint(rsa_key)


def test_a_jwks_that_another_library_wrote_is_read(service_keys: RsaKeys) -> None:
    """With kid, use and alg, as joserfc writes them."""
    parameters = [{"use": "sig", "alg": "PS256"}, {"use": "sig", "alg": "EdDSA"}]
    keys = [
        RSAKey.import_key(service_keys.public_key, parameters[0]),
        OKPKey.import_key(ED.public_key(), parameters[1]),
    ]
    for key in keys:
        key.ensure_kid()
    text = json.dumps(KeySet(keys).as_dict(private=False)).encode()

    found = PinnedAuthority("a", "", read_file(text, now=NOW)).keys

    assert {key.kid for key in keys} == set(found)


def test_openssl_writes_keys_that_are_read() -> None:
    """`openssl genpkey` and `pkey -pubout`: what an administrator has at hand."""
    for algorithm in ("ed25519", "rsa"):
        options = ["-pkeyopt", "rsa_keygen_bits:3072"] if algorithm == "rsa" else []
        private = openssl("genpkey", "-algorithm", algorithm, *options)
        public = openssl("pkey", "-pubout", stdin=private)

        assert len(read(read_file(public, now=NOW)).keys) == 1


def jwk_of(key: public_jwk.VerifyingKey, **changes: object) -> bytes:
    """Return a JWKS of one key, changed."""
    return json.dumps({"keys": [public_jwk.canonical(key) | changes]}).encode()


_WEAK = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
_ED_PUBLIC = ED.public_key()

REFUSED = {
    "empty": b"",
    "no keys": b'{"keys":[]}',
    "not JSON": b"{keys}",
    "deep": b'{"keys":' + b"[" * 60_000,
    "a member twice": b'{"keys":[],"keys":[]}',
    "keys is no list": b'{"keys":{}}',
    "keys in keys": b'{"keys":[{"keys":[]}]}',
    "a key is no object": b'{"keys":["x"]}',
    "a kind unknown": b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}',
    "a symmetric key": b'{"kty":"oct","k":"AAAA"}',
    "private Ed25519": jwk_of(_ED_PUBLIC, d="AAAA"),
    "private RSA": jwk_of(_WEAK, p="AAAA"),
    "private ML-DSA": jwk_of(ML_DSA.public_key(), priv="AAAA"),
    "private though for encryption": jwk_of(_ED_PUBLIC, use="enc", d="AAAA"),
    "only for encryption": jwk_of(_ED_PUBLIC, use="enc"),
    "use unknown": jwk_of(_ED_PUBLIC, use="both"),
    "no verify": jwk_of(_ED_PUBLIC, key_ops=["encrypt"]),
    "alg of another kind": jwk_of(_ED_PUBLIC, alg="PS256"),
    "alg none": jwk_of(_ED_PUBLIC, alg="none"),
    "a kid of its own": jwk_of(_ED_PUBLIC, kid="key-1"),
    "weak RSA": jwk_of(_WEAK),
    "RSA of a small exponent": json.dumps(
        {"kty": "RSA", "e": "Aw", "n": base64.urlsafe_b64encode(b"\xff" * 512).decode()}
    ).encode(),
    "padded": jwk_of(_ED_PUBLIC, x=public_jwk.canonical(_ED_PUBLIC)["x"] + "="),
    "short": jwk_of(_ED_PUBLIC, x="AAAA"),
    "no text": jwk_of(_ED_PUBLIC, x=7),
    "not ASCII": jwk_of(_ED_PUBLIC, x="\uff21" * 43),
    "small order": jwk_of(_ED_PUBLIC, x="A" * 43),
    "twice the same": file_of(_ED_PUBLIC, _ED_PUBLIC),
    "too many": file_of(
        *(
            Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32).public_key()
            for n in range(MAX_KEYS + 1)
        )
    ),
    "too large": b" " * 10 + b"{" + b" " * MAX_FILE_BYTES + b"}",
    "weak PEM": pem_of(_WEAK),
    "PEM of a curve": pem_of(ec.generate_private_key(ec.SECP256R1()).public_key()),
    "PEM of Ed448": pem_of(Ed448PrivateKey.generate().public_key()),
    "two PEMs": pem_of(_ED_PUBLIC) + pem_of(ED_TOO.public_key()),
    "damaged PEM": pem_of(_ED_PUBLIC).replace(b"MC", b"MD"),
    "damaged certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n"
    b"-----END CERTIFICATE-----\n",
    "a private PEM": ED.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ),
    "a private PEM beside": pem_of(_ED_PUBLIC)
    + ED.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ),
}


@pytest.mark.parametrize("file", REFUSED.values(), ids=REFUSED)
def test_what_is_no_key_is_refused(file: bytes) -> None:
    """With a message that says why, and holds nothing of the file."""
    with pytest.raises(KeyRefused) as refused:
        read_file(file, now=NOW)

    assert "AAAA" not in str(refused.value)


def test_private_keys_are_named_as_such() -> None:
    """Who gives one is told that it is spoilt, not that something is malformed."""
    for name, file in REFUSED.items():
        if name.startswith(("private", "a private")):
            with pytest.raises(KeyRefused, match="private key"):
                read_file(file, now=NOW)


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode()))
@example(b"-----BEGIN PUBLIC KEY-----")
@example(b'{"keys":[{"kty":["RSA"]}]}')
@example(b'{"kty":"OKP","crv":"Ed25519","x":null,"kid":{}}')
@example(b"{\xff}")
def test_reading_is_total(file: bytes) -> None:
    """Any bytes give a form or `KeyRefused`."""
    with contextlib.suppress(KeyRefused):
        read_file(file, now=NOW)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "e", "n", "alg", "pub", "use", "key_ops"]),
        st.sampled_from(["RSA", "OKP", "AKP", "Ed25519", "ML-DSA-65", "AQAB", "sig"])
        | st.none()
        | st.integers()
        | st.lists(st.text(max_size=3), max_size=2),
    )
)
def test_reading_jwks_is_total(jwk: dict[str, object]) -> None:
    """Members of any type, in any mixture."""
    with pytest.raises(KeyRefused):
        read_file(json.dumps({"keys": [jwk]}).encode(), now=NOW)


def test_points_of_small_order_are_all_known() -> None:
    """Computed: of the curve's eight points of small order, every spelling.

    Under such a key, signatures verify that nobody made.
    """
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    # (0, 1), (0, -1), (sqrt(-1), 0): y is 1, -1, 0. The four of order 8 have
    # x^2 = -y^2 ... by doubling: y^2 = (-1 +- sqrt(1 + d)) / d.
    root = pow(1 + d, (p + 3) // 8, p)
    if root * root % p != (1 + d) % p:
        root = root * pow(2, (p - 1) // 4, p) % p
    assert root * root % p == (1 + d) % p
    ys = {0, 1, p - 1}
    for sign in (1, -1):
        square = (-1 + sign * root) * pow(d, -1, p) % p
        y = pow(square, (p + 3) // 8, p)
        if y * y % p != square:
            y = y * pow(2, (p - 1) // 4, p) % p
        if y * y % p == square:
            ys |= {y, p - y}
    spellings = {y + k * p for y in ys for k in (0, 1) if y + k * p < 2**255}

    assert len(spellings) == 7
    for y in spellings:
        for sign_bit in (0, 1):
            raw = (y | sign_bit << 255).to_bytes(32, "little")
            with pytest.raises(KeyRefused, match="small order"):
                public_jwk.check_key(Ed25519PublicKey.from_public_bytes(raw))


@pytest.mark.parametrize(
    "material",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"keys":7}',
        '{"keys":[]}',
        '{"x509":"AA=="}',
        '{"x509":7}',
        '{"keys":[{"kty":"OKP"}]}',
        read_file(file_of(_ED_PUBLIC), now=NOW) + " ",
        read_file(file_of(_ED_PUBLIC), now=NOW).replace('"kty"', '"use":"sig","kty"'),
    ],
)
def test_stored_material_has_one_spelling(material: str) -> None:
    """What was not written by this program is refused, and breaks nothing."""
    with pytest.raises(KeyRefused):
        read(material)


# Names and prefixes.


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a" * 65, "a\n", "ä"])
def test_a_name_follows_its_rule(name: str) -> None:
    """It stands in certificates, in events and in claims."""
    with pytest.raises(PinRefused):
        trust.pin(name, "", file_of(_ED_PUBLIC), now=NOW)


@pytest.mark.parametrize("prefix", ["shop", "/", "Shop/", "shop//", "shop/ "])
def test_a_prefix_ends_in_a_slash(prefix: str) -> None:
    """Else an authority of `shop` could make accounts of `shop2/`."""
    with pytest.raises(PinRefused):
        trust.pin("uni", prefix, file_of(_ED_PUBLIC), now=NOW)


# Whose key it is.


def test_a_key_is_found_by_its_thumbprint(service_keys: RsaKeys) -> None:
    """For its own algorithms only, in every spelling of them that JOSE has."""
    keys = [ED.public_key(), service_keys.public_key, ML_DSA.public_key()]
    book = pinned("uni", *keys)
    algorithms = ["EdDSA", "Ed25519", "PS256", "ML-DSA-65", "RS256", "HS256", "none"]
    expected = [{"EdDSA", "Ed25519"}, {"PS256"}, {"ML-DSA-65"}]

    for key, right in zip(keys, expected, strict=True):
        kid = public_jwk.thumbprint(key)
        found = {
            name: book.find(kid=kid, algorithm=name, chain=()) for name in algorithms
        }

        assert dict.fromkeys(right, ("uni", key)) == {
            name: value for name, value in found.items() if value
        }


def test_who_is_not_pinned_is_not_found() -> None:
    """No kid, another's kid, or a kid beside a chain: nobody."""
    book = pinned("uni", ED.public_key())
    kid, other = map(public_jwk.thumbprint, (ED.public_key(), ED_TOO.public_key()))

    assert book.find(kid=kid, algorithm="EdDSA", chain=()) is not None
    assert book.find(kid=None, algorithm="EdDSA", chain=()) is None
    assert book.find(kid="", algorithm="EdDSA", chain=()) is None
    assert book.find(kid=other, algorithm="EdDSA", chain=()) is None
    assert book.find(kid=kid, algorithm="EdDSA", chain=(b"x",)) is None
    assert Pinned([], NOW).find(kid=kid, algorithm="EdDSA", chain=()) is None


def test_a_chain_beside_a_kid_is_not_looked_at() -> None:
    """Even a good one: a header has the one or the other."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = make_ca("CA", key, now=NOW)
    made = der(Issuer(ca, key).issue_signing("uni", ED.public_key(), now=NOW))
    book = Pinned([trust.pin("uni", "", pem(ca), now=NOW)], NOW)

    assert book.find(kid=None, algorithm="EdDSA", chain=[made]) is not None
    assert book.find(kid="", algorithm="EdDSA", chain=[made]) is None


def test_a_key_of_two_authorities_is_nobodys() -> None:
    """The one could speak for the other; what is theirs alone stays theirs."""
    shared, own = ED.public_key(), ED_TOO.public_key()
    book = Pinned(
        [
            trust.pin("a", "", file_of(shared), now=NOW),
            trust.pin("b", "", file_of(shared, own), now=NOW),
            trust.pin("c", "", file_of(shared), now=NOW),
        ],
        NOW,
    )

    shared_kid, own_kid = map(public_jwk.thumbprint, (shared, own))
    assert book.find(kid=shared_kid, algorithm="EdDSA", chain=()) is None
    assert book.find(kid=own_kid, algorithm="EdDSA", chain=()) == ("b", own)


@given(
    kid=st.none() | st.text(max_size=50),
    algorithm=st.text(max_size=12),
    chain=st.lists(st.binary(max_size=40), max_size=6),
)
def test_finding_is_total(kid: str | None, algorithm: str, chain: list[bytes]) -> None:
    """Whatever a header says, nothing but None comes of it."""
    assert pinned("a", _ED_PUBLIC).find(kid=kid, algorithm=algorithm, chain=chain) is (
        None
    )


def test_errors_of_pinning_are_deliberate_ones() -> None:
    """Random files never raise anything else, whatever they begin with."""
    for start in (
        b"{",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN PUBLIC KEY-----",
    ):
        for _ in range(50):
            with pytest.raises(OtpsealError):
                trust.pin("a", "", start + secrets.token_bytes(40), now=NOW)
