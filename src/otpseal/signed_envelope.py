"""Envelopes of the suite v1: a seed that an authority signed, then sealed.

A nested JWT (RFC 7519 section 11.2) in compact form, which any JOSE library can make::

    envelope = JWE {"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT","kid":import key}
    in it    = JWS {"alg":"PS256" or "Ed25519","typ":"otpseal-seed+jwt",
                    "kid":signing key or "x5c":[certificates]}
    in it    = `otpseal.seed_claims`

Headers are exactly these, with no member more: no other algorithm, no compression, no
key or address of one. A `kid` only chooses among keys that are pinned, and an `x5c`
counts as far as a pinned CA vouches for it.

Whatever fails before a pinned authority's signature is known to be good is one error,
and costs the same: a stage that fails goes on with a stand-in (RFC 7516 section 11.5),
so that nobody learns by the time how far a changed envelope came. Only what the sender
of a signed part wrote into it himself may show: a signature of PS256 or a certificate
takes its own time, and malformed JSON some microseconds more.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey, RSAKey

from otpseal import base64url, jose_header, seed_claims
from otpseal.errors import EnvelopeRefused, UnsealFailed
from otpseal.keypolicy import key_id
from otpseal.kid import is_kid
from otpseal.public_jwk import thumbprint
from otpseal.seed_claims import SeedClaims
from otpseal.signers import OpenedEnvelope, PinnedKeys
from otpseal.stumbling import stumble
from otpseal.suite import Suite

__all__ = [
    "OpenedEnvelope",
    "PinnedKeys",
    "Signer",
    "Unwrap",
    "open_envelope",
    "seal",
]

#: Longest envelope that is looked at, in characters: one with a certificate chain.
MAX_ENVELOPE_CHARS: Final = 32 * 1024

TYPE: Final = "otpseal-seed+jwt"
PS256: Final = "PS256"
#: RFC 9864; the older name EdDSA also stands for another curve, and is not taken.
ED25519: Final = "Ed25519"
_KEY_ALGORITHM: Final = "RSA-OAEP-256"
_CONTENT_ALGORITHM: Final = "A256GCM"
_CEK_BYTES: Final = 32
_SEALED_PARTS: Final = 5
_SIGNED_PARTS: Final = 3
_DOT: Final = b"."

_JwsKey = RSAPublicKey | Ed25519PublicKey

#: The OAEP decryption of one import key; raises `UnsealFailed`.
Unwrap = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Signer:
    """What an authority signs with.

    Attributes:
        key: RSA for PS256, or Ed25519.
        chain: its certificate and those between it and the CA, in DER; empty if the
            key is pinned itself.
    """

    key: RSAPrivateKey | Ed25519PrivateKey
    chain: tuple[bytes, ...] = ()

    @property
    def algorithm(self) -> str:
        """The algorithm of JWS."""
        return PS256 if isinstance(self.key, RSAPrivateKey) else ED25519


def seal(claims: SeedClaims, *, signer: Signer, recipient: RSAPublicKey) -> str:
    """Sign claims and seal them to a service's import key.

    Raises:
        ClaimsRefused: a claim is out of its range.
    """
    header: dict[str, Any] = {"alg": signer.algorithm, "typ": TYPE}
    if signer.chain:
        header["x5c"] = [base64.b64encode(der).decode("ascii") for der in signer.chain]
    else:
        header["kid"] = thumbprint(signer.key.public_key())
    signed = jws.serialize_compact(
        header,
        seed_claims.to_json(claims),
        _jwk(signer.key),
        algorithms=[signer.algorithm],
    )
    outer = {
        "alg": _KEY_ALGORITHM,
        "enc": _CONTENT_ALGORITHM,
        "cty": "JWT",
        "kid": key_id(recipient),
    }
    return jwe.encrypt_compact(
        outer,
        signed,
        RSAKey.import_key(recipient),
        algorithms=[_KEY_ALGORITHM, _CONTENT_ALGORITHM],
    )


def open_envelope(
    text: str, *, unwrap: Callable[[str], Unwrap | None], pinned: PinnedKeys
) -> OpenedEnvelope:
    """Open an envelope and believe it, if a pinned authority signed it.

    Args:
        text: from a stranger.
        unwrap: gives the decryption of the import key of a kid, or None.
        pinned: whom to believe.

    Raises:
        EnvelopeRefused: for every cause alike.
        ClaimsRefused: a pinned authority signed claims that are none.
    """
    kid = _outer_kid(text)
    decrypt = unwrap(kid)
    if decrypt is None:
        raise EnvelopeRefused
    signed = _decrypted(text, decrypt)
    authority, payload = _verified(signed, pinned)
    # The one place where it is said: all that fails has come this far.
    if authority is None:
        raise EnvelopeRefused
    digest = hashlib.sha256(text.encode("ascii")).digest()
    claims = seed_claims.parse(payload)
    return OpenedEnvelope(claims, authority, Suite.V1, digest, kid)


def _outer_kid(text: str) -> str:
    """Return the kid of an envelope of the right form, which is no secret."""
    if len(text) > MAX_ENVELOPE_CHARS or not text.isascii():
        raise EnvelopeRefused
    parts = text.encode("ascii").split(_DOT)
    if len(parts) != _SEALED_PARTS:
        raise EnvelopeRefused
    try:
        header = jose_header.parse(parts[0])
        for part in parts:
            base64url.decode(part)
    except ValueError:
        raise EnvelopeRefused from None
    kid = header.pop("kid", None)
    exact = {"alg": _KEY_ALGORITHM, "enc": _CONTENT_ALGORITHM, "cty": "JWT"}
    if header != exact or not is_kid(kid):
        raise EnvelopeRefused
    return str(kid)


class _ImportKey(RSAKey):
    """A key whose private half is elsewhere: all that joserfc asks of it is this."""

    def __init__(self, decrypt: Unwrap) -> None:
        # joserfc looks at the type and, for `use`, at the members; never at a value.
        super().__init__(cast("RSAPublicKey", None), {"n": "AQ", "e": "AQAB"})
        self._unwrap = decrypt

    def get_op_key(self, _operation: str) -> Any:  # noqa: ANN401 - joserfc's own type
        return self

    def decrypt(self, ciphertext: bytes, _padding: object) -> bytes:
        """Return the content key; a random one in place of what does not open."""
        at_random = secrets.token_bytes(_CEK_BYTES)
        try:
            cek = self._unwrap(ciphertext)
        except UnsealFailed:
            return at_random
        stumble()
        return cek if len(cek) == _CEK_BYTES else at_random


def _decrypted(text: str, decrypt: Unwrap) -> bytes:
    """Return the signed part; the stand-in for one if the envelope does not open."""
    algorithms = [_KEY_ALGORITHM, _CONTENT_ALGORITHM]
    try:
        opened = jwe.decrypt_compact(text, _ImportKey(decrypt), algorithms=algorithms)
    except (JoseError, ValueError):
        return _stand_in()
    stumble()
    signed = opened.plaintext or b""
    return signed if signed.count(_DOT) == _SIGNED_PARTS - 1 else _stand_in()


class _Registry(jws.JWSRegistry):
    """joserfc's bounds are for headers without certificates, and for RSA to 6144."""

    max_header_length = MAX_ENVELOPE_CHARS
    max_signature_length = 2048


def _verified(signed: bytes, pinned: PinnedKeys) -> tuple[str | None, bytes]:
    """Return the authority that signed, or None, and the payload."""
    authority, key, algorithm = _signer(signed, pinned)
    if authority is None:
        signed = _stand_in()
    registry = _Registry(algorithms=[algorithm])
    try:
        found = jws.deserialize_compact(signed, _jwk(key), registry=registry)
    except (JoseError, ValueError):
        return None, b""
    return authority, found.payload


def _signer(signed: bytes, pinned: PinnedKeys) -> tuple[str | None, _JwsKey, str]:
    """Return whose signature this claims to be; None and a stand-in for nobody's."""
    nobody = None, _standing_ed25519().public_key(), ED25519
    try:
        algorithm, kid, chain = _inner_header(signed)
    except ValueError:
        return nobody
    found = pinned.find(kid=kid, algorithm=algorithm, chain=chain)
    if found is None:
        return nobody
    authority, key = found
    # Else a public RSA key could be taken for whatever the header says it is.
    if algorithm == PS256 and isinstance(key, RSAPublicKey):
        return authority, key, PS256
    if algorithm == ED25519 and isinstance(key, Ed25519PublicKey):
        return authority, key, ED25519
    return nobody


def _inner_header(signed: bytes) -> tuple[str, str | None, tuple[bytes, ...]]:
    """Return algorithm, kid and certificates of a signed part of the right form.

    Raises:
        ValueError: it is of another form.
    """
    parts = signed.split(_DOT)
    for part in parts:
        base64url.decode(part)
    header = jose_header.parse(parts[0])
    chain, kid = jose_header.chain(header), header.get("kid")
    if set(header) != {"alg", "typ", "x5c" if chain else "kid"}:
        raise ValueError("other members")
    # In a tuple: JSON's lists have no place in a set.
    if header["typ"] != TYPE or header["alg"] not in (PS256, ED25519):
        raise ValueError("another type or algorithm")
    if not chain and not is_kid(kid):
        raise ValueError("no kid")
    return header["alg"], kid, chain


def _jwk(key: RSAPrivateKey | Ed25519PrivateKey | _JwsKey) -> RSAKey | OKPKey:
    if isinstance(key, RSAPrivateKey | RSAPublicKey):
        return RSAKey.import_key(key)
    return OKPKey.import_key(key)


# Stand-ins: work is done on them, and nothing is believed that they say.


@cache
def _standing_ed25519() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(32))


@cache
def _stand_in() -> bytes:
    """Return a signed part like any other, by nobody, and badly signed."""
    header = {"alg": ED25519, "typ": TYPE, "kid": "0" * 43}
    key = OKPKey.import_key(_standing_ed25519())
    signed, other = (
        jws.serialize_compact(header, payload, key, algorithms=[ED25519]).encode()
        for payload in (b" " * 512, b"0" * 512)
    )
    return signed.rpartition(_DOT)[0] + _DOT + other.rpartition(_DOT)[2]
