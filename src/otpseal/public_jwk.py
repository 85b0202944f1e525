"""Public keys that verify an authority's signatures, as JWKs (RFC 7517).

Three kinds: RSA within `otpseal.keypolicy`, for PS256; Ed25519 (RFC 8037); ML-DSA-65
as the key type AKP (draft-ietf-cose-dilithium), for the suite pq. A key is named by
its RFC 7638 thumbprint and by nothing else.

A JWK that holds a private or symmetric key is refused, whatever else it says: it was
to be kept at the authority, and this is no place for it.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from otpseal import base64url, keypolicy
from otpseal.errors import KeyRefused
from otpseal.kid import kid_of

VerifyingKey = RSAPublicKey | Ed25519PublicKey | MLDSA65PublicKey

#: Members of private and of symmetric keys: RFC 7518 section 6, RFC 8037, AKP.
_PRIVATE: Final = frozenset(
    ("d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv", "seed")
)
_ALGORITHMS: Final[dict[type[VerifyingKey], tuple[str, ...]]] = {
    RSAPublicKey: ("PS256",),
    Ed25519PublicKey: ("EdDSA", "Ed25519"),
    MLDSA65PublicKey: ("ML-DSA-65",),
}

_ED25519_BYTES: Final = 32
_ML_DSA_65_BYTES: Final = 1952

#: The y coordinates of Ed25519's points of small order, sign bit cleared, and the
#: spellings of them that are not canonical. Under such a key, signatures can be made
#: without any private key.
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def check_key(key: object) -> VerifyingKey:
    """Return `key` if it is of a kind that is accepted, and no weak one.

    Raises:
        KeyRefused: says what is accepted.
    """
    if isinstance(key, RSAPublicKey):
        return keypolicy.check_public_key(key)
    if isinstance(key, Ed25519PublicKey):
        raw = key.public_bytes_raw()
        if raw[:-1] + bytes([raw[-1] & 0x7F]) in _SMALL_ORDER:
            raise KeyRefused("the Ed25519 key is a point of small order: no such key")
        return key
    if isinstance(key, MLDSA65PublicKey):
        return key
    raise KeyRefused("signing keys are RSA of 3072 to 8192 bits, Ed25519 or ML-DSA-65")


def fits(key: VerifyingKey, algorithm: str) -> bool:
    """Tell whether `algorithm`, as JOSE names it, is the one for a key of this kind."""
    return any(
        isinstance(key, kind) and algorithm in names
        for kind, names in _ALGORITHMS.items()
    )


def canonical(key: VerifyingKey) -> dict[str, str]:
    """Return a key's JWK with its required members only, sorted (RFC 7638)."""
    if isinstance(key, RSAPublicKey):
        return keypolicy.rsa_members(key)
    raw = base64url.encode(key.public_bytes_raw())
    if isinstance(key, Ed25519PublicKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": raw}
    return {"alg": "ML-DSA-65", "kty": "AKP", "pub": raw}


def thumbprint(key: VerifyingKey) -> str:
    """Return the kid: the RFC 7638 SHA-256 thumbprint, 43 base64url characters."""
    return kid_of(canonical(key))


def parse(jwk: Mapping[str, object]) -> VerifyingKey:
    """Return the key of a JWK.

    Members that say nothing about it are ignored; `use`, `key_ops`, `alg` and `kid`
    must not contradict it.

    Raises:
        KeyRefused: not a public signing key of an accepted kind.
    """
    if is_private(jwk):
        raise KeyRefused(
            "the JWK holds a private key: it belongs to the authority alone, and has"
            " to be replaced if it came here by mistake. Give the public half"
        )
    key = check_key(_of_kind(jwk))
    if jwk.get("use", "sig") != "sig":
        raise KeyRefused("the JWK's `use` is not `sig`: it is not a signing key")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeyRefused("the JWK's `key_ops` have no `verify`")
    if "alg" in jwk and not fits(key, str(jwk["alg"])):
        raise KeyRefused("the JWK's `alg` is none that is accepted for such a key")
    if jwk.get("kid", thumbprint(key)) != thumbprint(key):
        raise KeyRefused(
            "the JWK's `kid` is not its RFC 7638 thumbprint: envelopes name keys by"
            f" that, here {thumbprint(key)}"
        )
    return key


def is_private(jwk: Mapping[str, object]) -> bool:
    """Tell whether a JWK has members that only its owner may know."""
    return jwk.get("kty") == "oct" or not _PRIVATE.isdisjoint(jwk)


def _of_kind(jwk: Mapping[str, object]) -> object:
    kind = jwk.get("kty")
    try:
        if kind == "RSA":
            exponent = int.from_bytes(_decoded(jwk, "e"), "big")
            modulus = int.from_bytes(_decoded(jwk, "n"), "big")
            return RSAPublicNumbers(exponent, modulus).public_key()
        if kind == "OKP" and jwk.get("crv") == "Ed25519":
            raw = _decoded(jwk, "x", _ED25519_BYTES)
            return Ed25519PublicKey.from_public_bytes(raw)
        if kind == "AKP" and jwk.get("alg") == "ML-DSA-65":
            raw = _decoded(jwk, "pub", _ML_DSA_65_BYTES)
            return MLDSA65PublicKey.from_public_bytes(raw)
    except (ValueError, OverflowError, UnsupportedAlgorithm):
        raise KeyRefused("the JWK's members are not those of a public key") from None
    return None


def _decoded(jwk: Mapping[str, object], member: str, length: int = 0) -> bytes:
    """Return a member's bytes.

    Raises:
        ValueError: not base64url in its one spelling, or not of that length.
    """
    text = jwk.get(member)
    if not isinstance(text, str):
        raise ValueError(member)  # noqa: TRY004 - one error for every cause
    raw = base64url.decode(text)
    if len(raw) > keypolicy.MAX_PEM_BYTES or (length and len(raw) != length):
        raise ValueError(member)
    return raw
