"""Envelope v1: its own library and others make it, and nothing else is believed."""

import base64
import hashlib
import hmac
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwe, jws
from joserfc.jwk import OctKey, OKPKey, RSAKey
from jwcrypto import jwe as other_jwe
from jwcrypto import jwk as other_jwk
from jwcrypto import jws as other_jws
from node_fixture import npm_install, run_node
from trust_fixture import Headquarters, Pins, encoded

from otpseal import seed_claims, signed_envelope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import ClaimsRefused, EnvelopeRefused
from otpseal.keypolicy import key_id
from otpseal.public_jwk import thumbprint
from otpseal.signed_envelope import Signer

ALL_JWE = ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5", "dir", "A256GCM", "A128CBC-HS256"]


@pytest.fixture(scope="module")
def signing_rsa() -> RSAPrivateKey:
    """An authority's RSA key, for PS256."""
    return rsa.generate_private_key(65537, 3072)


@pytest.fixture(params=["Ed25519", "PS256"])
def hq(
    request: pytest.FixtureRequest, service_keys: RsaKeys, signing_rsa: RSAPrivateKey
) -> Headquarters:
    """An authority of either algorithm."""
    if request.param == "PS256":
        return Headquarters(service_keys, signer=Signer(signing_rsa))
    return Headquarters(service_keys)


def pem(key: Any) -> bytes:  # noqa: ANN401 - any private key
    """Return a private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: Any) -> bytes:  # noqa: ANN401 - any public key
    """Return a public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sealed_as_is(
    hq: Headquarters, inner: str | bytes, header: dict[str, Any] | None = None
) -> str:
    """Seal anything to the service, as anybody can."""
    outer = {
        "alg": "RSA-OAEP-256",
        "enc": "A256GCM",
        "cty": "JWT",
        "kid": hq.keys.kid,
        **(header or {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwe.encrypt_compact(
            {name: value for name, value in outer.items() if value is not None},
            inner,
            RSAKey.import_key(hq.keys.public_key),
            registry=jwe.JWERegistry(algorithms=[*ALL_JWE, "DEF"]),
        )


def signed_as_is(hq: Headquarters, **changed: object) -> str:
    """Sign good claims with the right key under a header that is changed."""
    header = {
        "alg": hq.signer.algorithm,
        "typ": signed_envelope.TYPE,
        "kid": thumbprint(hq.signer.key.public_key()),
        **changed,
    }
    kept = {name: value for name, value in header.items() if value is not None}
    head = encoded(json.dumps(kept).encode())
    signing_input = f"{head}.{encoded(seed_claims.to_json(hq.claims()))}"
    algorithm = jws.JWSRegistry.algorithms[hq.signer.algorithm]
    key: Any = (
        RSAKey.import_key(hq.signer.key)
        if isinstance(hq.signer.key, RSAPrivateKey)
        else OKPKey.import_key(hq.signer.key)
    )
    signature = algorithm.sign(signing_input.encode(), key)
    return f"{signing_input}.{encoded(signature)}"


# What is believed.


def test_what_is_sealed_is_opened(hq: Headquarters) -> None:
    """The claims come back, with the authority's name and the text's digest."""
    claims = hq.claims(label="Alice")
    text = hq.seal(claims)

    opened = hq.open(text)

    assert claims == opened.claims
    assert ("hq", "v1", hq.keys.kid) == (opened.authority, opened.suite, opened.kid)
    assert hashlib.sha256(text.encode()).digest() == opened.digest


def test_no_two_envelopes_are_alike(hq: Headquarters) -> None:
    """The same claims sealed twice share no key and no nonce."""
    claims = hq.claims()
    one, two = hq.seal(claims).split("."), hq.seal(claims).split(".")

    assert one[0] == two[0]
    assert all(a != b for a, b in zip(one[1:], two[1:], strict=True))


def test_jwcrypto_makes_one(service_keys: RsaKeys, signing_rsa: RSAPrivateKey) -> None:
    """By another library, which knows nothing of ours, from the RFCs' names alone."""
    hq = Headquarters(service_keys, signer=Signer(signing_rsa))
    claims = hq.claims()
    signed = other_jws.JWS(seed_claims.to_json(claims))
    header = {
        "alg": "PS256",
        "typ": "otpseal-seed+jwt",
        "kid": thumbprint(signing_rsa.public_key()),
    }
    signed.add_signature(other_jwk.JWK.from_pem(pem(signing_rsa)), None, header, None)
    outer = {
        "alg": "RSA-OAEP-256",
        "enc": "A256GCM",
        "cty": "JWT",
        "kid": service_keys.kid,
    }
    sealed = other_jwe.JWE(signed.serialize(compact=True).encode(), json.dumps(outer))
    public = public_pem(service_keys.public_key)
    sealed.add_recipient(other_jwk.JWK.from_pem(public))

    assert claims == hq.open(sealed.serialize(compact=True)).claims


def test_jwcrypto_opens_one(service_keys: RsaKeys, signing_rsa: RSAPrivateKey) -> None:
    """And it reads ours."""
    hq = Headquarters(service_keys, signer=Signer(signing_rsa))
    claims = hq.claims()
    sealed = other_jwe.JWE()
    sealed.deserialize(
        hq.seal(claims), other_jwk.JWK.from_pem(pem(service_keys._private_key))
    )
    signed = other_jws.JWS()
    signed.deserialize(
        sealed.payload.decode(),
        other_jwk.JWK.from_pem(public_pem(signing_rsa.public_key())),
    )

    assert claims == seed_claims.parse(signed.payload)


NODE = """
import {readFileSync} from "node:fs";
import {CompactSign, CompactEncrypt, importPKCS8, importSPKI} from "jose";
const given = JSON.parse(readFileSync(0, "utf8"));
const key = await importPKCS8(given.signing, given.alg);
const signed = await new CompactSign(new TextEncoder().encode(given.claims))
  .setProtectedHeader({alg: given.alg, typ: "otpseal-seed+jwt", kid: given.kid})
  .sign(key);
const to = await importSPKI(given.recipient, "RSA-OAEP-256");
const sealed = await new CompactEncrypt(new TextEncoder().encode(signed))
  .setProtectedHeader(
    {alg: "RSA-OAEP-256", enc: "A256GCM", cty: "JWT", kid: given.audience})
  .encrypt(to);
console.log(sealed);
"""


@pytest.fixture(scope="session")
def jose_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with npm's jose, if it can be had."""
    return npm_install(tmp_path_factory.mktemp("jose"), "jose@6")


def test_npms_jose_makes_one(hq: Headquarters, jose_directory: Path) -> None:
    """In another language, by the library that most of its services use."""
    claims = hq.claims()
    asked = {
        "alg": hq.signer.algorithm,
        "signing": pem(hq.signer.key).decode(),
        "kid": thumbprint(hq.signer.key.public_key()),
        "claims": seed_claims.to_json(claims).decode(),
        "recipient": public_pem(hq.keys.public_key).decode(),
        "audience": hq.keys.kid,
    }
    made = run_node(jose_directory, NODE, json.dumps(asked))

    assert claims == hq.open(made).claims


# What is not.


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_changed_character_is_believed(
    hq: Headquarters, data: st.DataObject
) -> None:
    """One character changed, anywhere: refused."""
    # Drawn before the envelope is made, which is new each time.
    at = data.draw(st.floats(0, 1, exclude_max=True))
    by = data.draw(st.integers(1, 127))
    text = hq.seal()
    place = int(at * len(text))
    other = chr((ord(text[place]) + by) % 128)

    with pytest.raises(EnvelopeRefused):
        hq.open(text[:place] + other + text[place + 1 :])


@given(st.text(max_size=300) | st.binary(max_size=300).map(encoded))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_refused(hq: Headquarters, text: str) -> None:
    """No text does anything but be refused; sealed to the service neither."""
    with pytest.raises(EnvelopeRefused):
        hq.open(text)


@pytest.mark.parametrize(
    "inner",
    ["", "x", "a.b.c", "....", encoded(b"{}") + "..", "\0" * 100, "é"],
)
def test_what_is_sealed_by_anybody(hq: Headquarters, inner: str) -> None:
    """The public key alone makes nothing that is believed."""
    with pytest.raises(EnvelopeRefused):
        hq.open(sealed_as_is(hq, inner.encode()))


def test_a_stranger_signs(hq: Headquarters) -> None:
    """A good envelope by a key that is not pinned."""
    stranger = Headquarters(hq.keys, signer=Signer(Ed25519PrivateKey.generate()))

    with pytest.raises(EnvelopeRefused):
        hq.open(stranger.seal())


def test_a_stranger_names_the_pinned_key(hq: Headquarters) -> None:
    """The kid is the authority's, the signature is not."""
    stranger = Headquarters(hq.keys, signer=Signer(Ed25519PrivateKey.generate()))
    kid = thumbprint(hq.signer.key.public_key())
    inner = signed_as_is(stranger, kid=kid)

    with pytest.raises(EnvelopeRefused):
        hq.open(sealed_as_is(hq, inner))


@pytest.mark.parametrize(
    "changed",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "EdDSA"},
        {"alg": "ps256"},
        {"alg": None},
        {"alg": ["PS256"]},
        {"typ": "JWT"},
        {"typ": None},
        {"kid": None},
        {"kid": 7},
        {"kid": "\ud800" * 43},
        {"crit": ["exp"], "exp": 1},
        {"b64": False, "crit": ["b64"]},
        {"jku": "https://attacker.example/jwks.json"},
        {"x5u": "https://attacker.example/x5c"},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}},
        {"x5c": []},
        {"x5c": ["AAAA"]},
        {"kid": None, "x5c": ["AAAA"] * 5},
        {"kid": None, "x5c": "AAAA"},
    ],
)
def test_signed_headers_are_exact(hq: Headquarters, changed: dict[str, Any]) -> None:
    """Another algorithm, type, key or member, though the signature is good."""
    assert hq.open(sealed_as_is(hq, signed_as_is(hq))).authority == "hq"

    with pytest.raises(EnvelopeRefused):
        hq.open(sealed_as_is(hq, signed_as_is(hq, **changed)))


def test_a_public_key_is_no_secret(hq: Headquarters) -> None:
    """HS256 under the PEM of the authority's public key, the oldest confusion."""
    secret = public_pem(hq.signer.key.public_key())
    header = {
        "alg": "HS256",
        "typ": signed_envelope.TYPE,
        "kid": thumbprint(hq.signer.key.public_key()),
    }
    claims = encoded(seed_claims.to_json(hq.claims()))
    signing_input = f"{encoded(json.dumps(header).encode())}.{claims}"
    mac = hmac.digest(secret, signing_input.encode(), "sha256")
    inner = f"{signing_input}.{encoded(mac)}"

    with pytest.raises(EnvelopeRefused):
        hq.open(sealed_as_is(hq, inner))


def test_a_key_of_another_kind(
    service_keys: RsaKeys, signing_rsa: RSAPrivateKey
) -> None:
    """A pinned key answers for its own algorithm only, whatever the book says."""
    hq = Headquarters(service_keys)
    pins = Pins()
    kid = thumbprint(hq.signer.key.public_key())
    pins.keys[kid] = "hq", signing_rsa.public_key()

    with pytest.raises(EnvelopeRefused):
        hq.open(hq.seal(), pins)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RSA1_5"},
        {"alg": "RSA-OAEP"},
        {"enc": "A128CBC-HS256"},
        {"cty": None},
        {"cty": "jwt"},
        {"kid": None},
        {"kid": "another"},
        {"kid": "\ud800" * 43},
        {"zip": "DEF"},
        {"typ": "JWT"},
    ],
)
def test_sealed_headers_are_exact(hq: Headquarters, header: dict[str, Any]) -> None:
    """Another algorithm, compression or member, though all else is good."""
    inner = signed_as_is(hq)
    assert hq.open(sealed_as_is(hq, inner)).authority == "hq"

    with pytest.raises(EnvelopeRefused):
        hq.open(sealed_as_is(hq, inner, header))


def test_no_shared_key(hq: Headquarters) -> None:
    """`dir`: a content key that comes with nothing is not looked for."""
    header = {"alg": "dir", "enc": "A256GCM", "cty": "JWT", "kid": hq.keys.kid}
    key = OctKey.import_key(bytes(32))
    text = jwe.encrypt_compact(
        header, signed_as_is(hq), key, algorithms=["dir", "A256GCM"]
    )

    with pytest.raises(EnvelopeRefused):
        hq.open(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text + ".",
        lambda text: text.replace(".", "..", 1),
        lambda text: text[: text.rindex(".")],
        lambda text: text + "A" * 33_000,
        lambda text: text.replace(text[0], "é", 1),
        lambda text: json.dumps({"protected": text.split(".")[0]}),
    ],
)
def test_other_writings_are_refused(
    hq: Headquarters, spoil: Callable[[str], str]
) -> None:
    """Padding, blanks, parts more or fewer, too long, the JSON form: one writing."""
    with pytest.raises(EnvelopeRefused):
        hq.open(spoil(hq.seal()))


def test_a_signature_has_one_writing(hq: Headquarters) -> None:
    """Its last character has bits that say nothing: they must say nothing."""
    signed = signed_as_is(hq)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes leave four such bits, 384 none: then padding makes another writing.
    last = alphabet[alphabet.index(signed[-1]) ^ 1]
    other = signed[:-1] + last if hq.signer.algorithm == "Ed25519" else signed + "="

    with pytest.raises(EnvelopeRefused):
        hq.open(sealed_as_is(hq, other))


def test_a_header_of_two_minds(hq: Headquarters) -> None:
    """A member twice, in the sealed header and in the signed one."""
    text = hq.seal()
    head, rest = text.split(".", 1)
    header = base64.urlsafe_b64decode(head + "==")
    doubled = header.replace(b"{", b'{"alg":"RSA1_5",', 1)

    with pytest.raises(EnvelopeRefused):
        hq.open(f"{encoded(doubled)}.{rest}")


def test_too_long_costs_no_decryption(hq: Headquarters) -> None:
    """What is refused by its form is never handed to the private key."""

    def never(_kid: str) -> None:
        raise AssertionError("the key was asked for")

    with pytest.raises(EnvelopeRefused):
        signed_envelope.open_envelope("A" * 40_000, unwrap=never, pinned=hq.pins)


def test_claims_of_an_authority_are_told_apart(hq: Headquarters) -> None:
    """A good signature over what are no claims: that authority may know why."""
    header = {
        "alg": hq.signer.algorithm,
        "typ": signed_envelope.TYPE,
        "kid": thumbprint(hq.signer.key.public_key()),
    }
    key: Any = signed_envelope._jwk(hq.signer.key)
    inner = jws.serialize_compact(header, b"{}", key, algorithms=[header["alg"]])

    with pytest.raises(ClaimsRefused):
        hq.open(sealed_as_is(hq, inner))


def test_every_failure_decrypts_and_verifies_once(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far it comes: one decryption, one look at a signature."""
    verified = []
    verify = jws.deserialize_compact
    monkeypatch.setattr(
        signed_envelope.jws,
        "deserialize_compact",
        lambda *given, **named: verified.append(1) or verify(*given, **named),
    )
    good = hq.seal()
    head, key, iv, content, tag = good.split(".")
    wrong_key = encoded(b"\1" + bytes(511))
    failing = {
        "key": f"{head}.{wrong_key}.{iv}.{content}.{tag}",
        "tag": f"{head}.{key}.{iv}.{content}.{encoded(bytes(16))}",
        "no signed part": sealed_as_is(hq, b"x"),
        "nobody's": sealed_as_is(hq, signed_as_is(hq, kid="nobody")),
    }
    for name, text in failing.items():
        decrypted: list[int] = []

        def counting(ciphertext: bytes, seen: list[int] = decrypted) -> bytes:
            seen.append(1)
            return hq.keys.oaep_decrypt(ciphertext)

        verified.clear()
        with pytest.raises(EnvelopeRefused):
            signed_envelope.open_envelope(
                text, unwrap=lambda _kid, way=counting: way, pinned=hq.pins
            )
        assert (1, 1) == (len(decrypted), len(verified)), name


def test_kids_are_thumbprints(signing_rsa: RSAPrivateKey) -> None:
    """RFC 7638, and RFC 8037 appendix A.3 for its Ed25519 key."""
    example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    raw = base64.urlsafe_b64decode(example + "=")
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encoded(raw)})

    assert "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" == thumbprint(
        key.public_key  # type: ignore[arg-type]
    )
    assert key_id(signing_rsa.public_key()) == thumbprint(signing_rsa.public_key())
