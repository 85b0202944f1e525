"""`otpseal.enrolment_request`: PKCS#10 requests, by us, by OpenSSL, by a stranger."""

import contextlib
import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AttributeOID
from hypothesis import given
from hypothesis import strategies as st
from openssl_cli import openssl

from otpseal import enrolment_request
from otpseal.adapters.file_keys import RsaKeys
from otpseal.enrolment_request import (
    MAX_CHALLENGE_CHARS,
    MAX_REQUEST_BYTES,
    make,
    read,
)
from otpseal.errors import EnrolmentRefused, KeyRefused
from otpseal.keypolicy import private_pem
from otpseal.requested_keys import Requested

CHALLENGE = hashlib.sha256(b"ticket").hexdigest()
DER = serialization.Encoding.DER
EMPTY = x509.Name([])

#: Kids of other keys, and the URIs by RFC 9278 that name them.
KIDS = ["A" * 43, "b-_" + "9" * 40]
URIS = [f"urn:ietf:params:oauth:jwk-thumbprint:sha-256:{kid}" for kid in KIDS]
NAMED = frozenset(KIDS)


class Token:
    """A key that shows no private half: all that a request may ask of a token."""

    def __init__(self, keys: RsaKeys) -> None:
        self.kid = keys.kid
        self.public_key = keys.public_key
        self.pss_sign = keys.pss_sign

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """Not asked for."""
        raise AssertionError(ciphertext, label)


def built(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *challenges: bytes,
    digest: hashes.HashAlgorithm | None = None,
    scheme: padding.PSS | padding.PKCS1v15 | None = None,
    names: Sequence[x509.GeneralName] = (),
) -> bytes:
    """Return a request by the library's own builder."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(EMPTY)
    if names:
        extension = x509.SubjectAlternativeName(names)
        builder = builder.add_extension(extension, critical=False)
    for challenge in challenges:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge)
    signed = builder.sign(key, digest or hashes.SHA256(), rsa_padding=scheme)
    return signed.public_bytes(DER)


@pytest.fixture(scope="module")
def request_of_ours(service_keys: RsaKeys) -> bytes:
    """A request, made once."""
    return make(Token(service_keys), CHALLENGE, KIDS)


def test_a_request_is_read_as_it_was_made(
    service_keys: RsaKeys, request_of_ours: bytes
) -> None:
    """By a key whose private half stays where it is."""
    assert Requested(service_keys.public_key, CHALLENGE, NAMED) == read(request_of_ours)
    assert len(request_of_ours) < MAX_REQUEST_BYTES // 4


@pytest.mark.parametrize("size", [1, 100, 127, 128, MAX_CHALLENGE_CHARS])
def test_any_challenge_that_fits(service_keys: RsaKeys, size: int) -> None:
    """Short and long forms of DER's lengths."""
    assert "x" * size == read(make(service_keys, "x" * size)).challenge


@pytest.mark.parametrize("challenge", ["", "x" * (MAX_CHALLENGE_CHARS + 1)])
def test_no_challenge_is_no_request(service_keys: RsaKeys, challenge: str) -> None:
    """Of ours."""
    with pytest.raises(ValueError, match="challenge"):
        make(service_keys, challenge)


def test_our_bytes_are_those_of_the_builder(
    service_keys: RsaKeys, request_of_ours: bytes
) -> None:
    """All but the signature, whose salt is random: the same DER to the last bit."""
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    names = [x509.UniformResourceIdentifier(uri) for uri in URIS]
    theirs = built(
        service_keys._private_key, CHALLENGE.encode(), scheme=scheme, names=names
    )

    size = 512
    assert theirs[:-size] == request_of_ours[:-size]
    assert len(theirs) == len(request_of_ours)


def test_openssl_verifies_our_request(tmp_path: Path, request_of_ours: bytes) -> None:
    """`openssl req -verify`: signature, challenge and names as it prints them."""
    file = tmp_path / "request.der"
    file.write_bytes(request_of_ours)

    text = openssl(
        *("req", "-verify", "-noout", "-text", "-inform", "DER", "-in", file)
    ).decode()

    assert f"challengePassword        :{CHALLENGE}\n" in text
    assert f"URI:{URIS[0]}, URI:{URIS[1]}\n" in text
    assert "rsassaPss" in text
    assert "Mask Algorithm: mgf1 with sha256\n" in text
    assert "Salt Length: 0x20\n" in text


@pytest.mark.parametrize("scheme", ["PKCS#1 v1.5", "PSS"])
def test_a_request_by_openssl_is_read(
    tmp_path: Path, service_keys: RsaKeys, scheme: str
) -> None:
    """Made by hand with `openssl req`, in either padding."""
    key, config = tmp_path / "key.pem", tmp_path / "config"
    key.write_bytes(private_pem(service_keys._private_key))
    config.write_text(
        "[req]\ndistinguished_name=dn\nattributes=at\nprompt=no\n"
        f"[dn]\nCN=shop\n[at]\nchallengePassword={CHALLENGE}\n"
    )
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]

    made = openssl(
        *("req", "-new", "-key", key, "-config", config, "-outform", "DER", "-sha256"),
        *(options if scheme == "PSS" else []),
    )

    assert Requested(service_keys.public_key, CHALLENGE, frozenset()) == read(made)


def test_openssl_names_other_keys(tmp_path: Path, service_keys: RsaKeys) -> None:
    """`openssl req -addext`: by hand as by us, beside other names and extensions."""
    key, config = tmp_path / "key.pem", tmp_path / "config"
    key.write_bytes(private_pem(service_keys._private_key))
    config.write_text(
        "[req]\ndistinguished_name=dn\nattributes=at\nprompt=no\n"
        f"[dn]\nCN=shop\n[at]\nchallengePassword={CHALLENGE}\n"
    )
    names = ",".join(f"URI:{uri}" for uri in [*URIS, "https://shop.example/"])

    made = openssl(
        *("req", "-new", "-key", key, "-config", config, "-outform", "DER"),
        *("-addext", f"subjectAltName={names},DNS:shop.example"),
        *("-addext", "keyUsage=critical,digitalSignature"),
    )

    assert Requested(service_keys.public_key, CHALLENGE, NAMED) == read(made)


@pytest.mark.parametrize(
    "uri",
    [
        KIDS[0],
        URIS[0][:-1],
        URIS[0] + "A",
        URIS[0] + "=",
        URIS[0].upper(),
        URIS[0].replace("sha-256", "sha-512"),
        URIS[0] + "?",
    ],
)
def test_a_key_is_named_in_one_spelling(service_keys: RsaKeys, uri: str) -> None:
    """RFC 9278 with SHA-256; whatever else is a name says nothing of keys."""
    names = [x509.UniformResourceIdentifier(each) for each in (uri, URIS[1])]

    found = read(built(service_keys._private_key, b"x", names=names))

    assert {KIDS[1]} == found.named


def patched(keys: RsaKeys, tag: int, change: Callable[[bytes], bytes]) -> bytes:
    """Make a request by a key's owner, with the content of a tag changed."""
    original = enrolment_request._der

    def changed(found: int, content: bytes) -> bytes:
        return original(found, change(content) if found == tag else content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enrolment_request, "_der", changed)
        made = make(keys, CHALLENGE, KIDS)
    assert x509.load_der_x509_csr(made).is_signature_valid
    return made


def test_two_extension_requests_are_none(service_keys: RsaKeys) -> None:
    """The first parser reads one, the next one the other; in either spelling."""
    extra = enrolment_request._extension_request([b"\x86\x01a"])
    windows = bytes.fromhex("060a2b06010401823702010e")
    old = enrolment_request._der(
        0x30, windows + extra[2 + len(enrolment_request._EXTENSION_REQUEST) :]
    )
    for more in (extra, old):
        tag = enrolment_request._CONTEXT_0

        made = patched(service_keys, tag, lambda content, more=more: more + content)

        with pytest.raises(EnrolmentRefused):
            read(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content * 2,
        lambda content: content[:-1],
        lambda content: b"",
        # An x400Address; the length of the list is in its third byte.
        lambda content: (
            b"\x30\x81" + bytes([content[2] + 4]) + content[3:] + b"\xa3\x02\x05\x00"
        ),
    ],
    ids=["twice", "cut", "empty", "a form that nobody knows"],
)
def test_names_that_cannot_be_read_are_refused(
    service_keys: RsaKeys, change: Callable[[bytes], bytes]
) -> None:
    """Signed or not: what a parser stumbles over names nothing."""
    tag = enrolment_request._OCTET_STRING

    with pytest.raises(EnrolmentRefused):
        read(patched(service_keys, tag, change))


def test_a_key_is_not_had_by_copying_it(
    service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """The public key of one in a request that another signs: no proof, no seed."""

    class Thief(Token):
        def __init__(self) -> None:
            super().__init__(service_keys)
            self.pss_sign = other_keys.pss_sign

    with pytest.raises(EnrolmentRefused):
        read(make(Thief(), CHALLENGE))


def test_a_request_has_one_challenge(service_keys: RsaKeys) -> None:
    """None, or one that is empty or too long: refused."""
    key = service_keys._private_key
    assert read(built(key, b"x")).challenge == "x"

    for challenges in ((), (b"",), (b"x" * 256,)):
        with pytest.raises(EnrolmentRefused):
            read(built(key, *challenges))


def test_two_challenges_are_none(service_keys: RsaKeys) -> None:
    """A parser that takes the first is asked for the other by the next."""
    keys = Token(service_keys)
    original = enrolment_request._der

    def doubled(tag: int, content: bytes) -> bytes:
        twice = tag == enrolment_request._CONTEXT_0
        return original(tag, content * 2 if twice else content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enrolment_request, "_der", doubled)
        made = make(keys, CHALLENGE)

    assert 2 == len(list(x509.load_der_x509_csr(made).attributes))
    assert x509.load_der_x509_csr(made).is_signature_valid
    with pytest.raises(EnrolmentRefused):
        read(made)


def test_weak_keys_are_refused_before_their_signature() -> None:
    """RSA-2048 by its policy; a curve is no import key."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(KeyRefused, match="2048"):
        read(built(weak, b"x"))
    with pytest.raises(EnrolmentRefused):
        read(built(ec.generate_private_key(ec.SECP256R1()), b"x"))


def test_short_hashes_are_refused(service_keys: RsaKeys) -> None:
    """SHA-224 and SHA-1 have no place here; SHA-512 has."""
    key = service_keys._private_key

    assert read(built(key, b"x", digest=hashes.SHA512())).challenge == "x"
    with pytest.raises(EnrolmentRefused):
        read(built(key, b"x", digest=hashes.SHA224()))


def test_a_changed_bit_is_never_believed(
    service_keys: RsaKeys, request_of_ours: bytes
) -> None:
    """Wherever it is: refused, and by no other error."""
    choose = random.Random(7)
    for _ in range(300):
        bad = bytearray(request_of_ours)
        bad[choose.randrange(len(bad))] ^= 1 << choose.randrange(8)

        with contextlib.suppress(EnrolmentRefused, KeyRefused):
            read(bytes(bad))
            # How many bits of the signature's last byte are not used is signed by
            # nobody; all that is said and signed is the same.
            found = x509.load_der_x509_csr(bytes(bad))
            good = x509.load_der_x509_csr(request_of_ours)
            assert found.tbs_certrequest_bytes == good.tbs_certrequest_bytes
            assert found.signature == good.signature
    assert read(request_of_ours).key == service_keys.public_key


@given(st.binary(max_size=100))
def test_reading_is_total(request: bytes) -> None:
    """Any bytes are refused as one thing."""
    with pytest.raises(EnrolmentRefused):
        read(request)


def test_long_requests_are_not_parsed(request_of_ours: bytes) -> None:
    """Nor one with anything after it."""
    for more in (b"\0", bytes(MAX_REQUEST_BYTES)):
        with pytest.raises(EnrolmentRefused):
            read(request_of_ours + more)
