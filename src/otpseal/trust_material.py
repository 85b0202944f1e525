"""What an authority's signatures are known by: read from a file, kept canonical.

Up to 16 public keys (a JWKS of RFC 7517, one JWK, or one key in PEM form), or one CA
certificate (`otpseal.certificate_profile`). Kept as JSON in one spelling::

    {"keys":[JWK, ...]}     public keys by thumbprint, required members only
    {"x509":"base64"}       a CA certificate in DER

Private keys are refused wherever they turn up.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from otpseal import certificate_profile, public_jwk, strict_json
from otpseal.errors import KeyRefused
from otpseal.public_jwk import VerifyingKey

#: Longest file that is looked at, in bytes: 16 keys of ML-DSA-65 fit.
MAX_FILE_BYTES: Final = 64 * 1024

#: Most keys of one authority.
MAX_KEYS: Final = 16

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_BOM: Final = b"\xef\xbb\xbf"


def read_file(file: bytes, *, now: float) -> str:
    """Return the canonical form of the keys, or of the CA, that a file holds.

    Raises:
        KeyRefused: neither a JWKS nor PEM, too large, private, weak, or expired.
    """
    content = file.removeprefix(_BOM).strip()
    if len(content) > MAX_FILE_BYTES:
        raise KeyRefused(f"the file has more than {MAX_FILE_BYTES} bytes")
    if content.startswith(b"{"):
        return _canonical_keys(_jwks(content))
    labels = _PEM.findall(content)
    if any(b"PRIVATE KEY" in label for label in labels):
        raise KeyRefused(
            "the file holds a private key: it belongs to the authority alone, and has"
            " to be replaced if it came here by mistake. Give the public half"
        )
    if labels == [b"PUBLIC KEY"]:
        return _canonical_keys([_pem_key(content)])
    if labels == [b"CERTIFICATE"]:
        return _canonical_ca(_pem_ca(content, now))
    raise KeyRefused(
        "give a JWKS, or a file with one public key ('-----BEGIN PUBLIC KEY-----') or"
        " one CA certificate ('-----BEGIN CERTIFICATE-----')"
    )


@dataclass(frozen=True, slots=True)
class Material:
    """What canonical material stands for."""

    keys: tuple[tuple[str, VerifyingKey], ...]
    ca: x509.Certificate | None


@lru_cache(maxsize=256)
def read(material: str) -> Material:
    """Return what canonical material stands for.

    Raises:
        KeyRefused: it is not canonical, so that this program did not write it.
    """
    try:
        content = json.loads(material)
        if set(content) == {"x509"}:
            der = binascii.a2b_base64(content["x509"], strict_mode=True)
            certificate = x509.load_der_x509_certificate(der)
            ca = certificate_profile.check_ca(certificate)
            keys, again = [], _canonical_ca(ca)
        else:
            ca = None
            keys = [public_jwk.parse(jwk) for jwk in content["keys"]]
            again = _canonical_keys(keys)
    except (ValueError, TypeError, KeyError, AttributeError, x509.InvalidVersion):
        raise _not_canonical() from None
    if again != material:
        raise _not_canonical()
    return Material(tuple((public_jwk.thumbprint(key), key) for key in keys), ca)


def _not_canonical() -> KeyRefused:
    return KeyRefused("a pinned authority's keys are not as they were stored")


def _canonical_keys(keys: Sequence[VerifyingKey]) -> str:
    by_kid = {public_jwk.thumbprint(key): key for key in keys}
    if not 1 <= len(keys) <= MAX_KEYS or len(by_kid) != len(keys):
        raise KeyRefused(f"give 1 to {MAX_KEYS} different signing keys")
    jwks = [public_jwk.canonical(by_kid[kid]) for kid in sorted(by_kid)]
    return _encoded({"keys": jwks})


def _canonical_ca(ca: x509.Certificate) -> str:
    der = ca.public_bytes(serialization.Encoding.DER)
    return _encoded({"x509": base64.b64encode(der).decode("ascii")})


def _encoded(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _jwks(content: bytes) -> list[VerifyingKey]:
    """Return the signing keys of a JWKS (RFC 7517 section 5), or of one JWK."""
    try:
        found = strict_json.parse_object(content)
    except ValueError:
        raise KeyRefused("the file is not a JWKS: not JSON") from None
    jwks = found.get("keys") if "keys" in found else [found]
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise KeyRefused("the file is not a JWKS: `keys` is no list of JWKs")
    if any("keys" in jwk for jwk in jwks):
        raise KeyRefused("the file is not a JWKS: a key holds keys")
    # Those that it encrypts with are none of our business, unless they are private.
    signing = [
        jwk for jwk in jwks if jwk.get("use") != "enc" or public_jwk.is_private(jwk)
    ]
    return [public_jwk.parse(jwk) for jwk in signing]


def _pem_key(pem: bytes) -> VerifyingKey:
    try:
        key = serialization.load_pem_public_key(pem + b"\n")
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused("the public key cannot be read") from None
    return public_jwk.check_key(key)


def _pem_ca(pem: bytes, now: float) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem + b"\n")
    except (ValueError, x509.InvalidVersion):
        raise KeyRefused("the certificate cannot be read") from None
    certificate_profile.check_ca(certificate)
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not starts.timestamp() <= now <= ends.timestamp():
        raise KeyRefused("the CA certificate has expired, or is not valid yet")
    return certificate
