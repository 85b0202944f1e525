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
so that nobody learns by the time how far a changed envelope came.
"""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey, RSAKey

from otpseal import seed_claims
from otpseal.errors import EnvelopeRefused, UnsealFailed
from otpseal.keypolicy import key_id
from otpseal.seed_claims import SeedClaims
from otpseal.suite import Suite

#: Longest envelope that is looked at, in characters: one with a certificate chain.
MAX_ENVELOPE_CHARS: Final = 32 * 1024

#: Most certificates in an `x5c`.
MAX_CHAIN: Final = 4

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

#: The OAEP decryption of one import key; raises `UnsealFailed`.
Unwrap = Callable[[bytes], bytes]

VerifyingKey = RSAPublicKey | Ed25519PublicKey


class PinnedKeys(Protocol):
    """The keys that a service believes."""

    def find(
        self, *, kid: str | None, algorithm: str, chain: Sequence[bytes]
    ) -> tuple[str, VerifyingKey] | None:
        """Return the authority and its key, or None.

        Args:
            kid: of a key that is pinned itself; None if there is a chain.
            algorithm: the key must be of its kind.
            chain: certificates in DER, the signer's first; empty if there is a kid.
        """


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


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """An envelope whose sender is known.

    Attributes:
        claims: what the authority signed.
        authority: the name that its key is pinned under.
        suite: of the envelope.
        digest: SHA-256 of the envelope's text.
        kid: the import key that opened it.
    """

    claims: SeedClaims
    authority: str
    suite: Suite
    digest: bytes
    kid: str


def seal(claims: SeedClaims, *, signer: Signer, recipient: RSAPublicKey) -> str:
    """Sign claims and seal them to a service's import key.

    Raises:
        ClaimsRefused: a claim is out of its range.
    """
    header: dict[str, Any] = {"alg": signer.algorithm, "typ": TYPE}
    if signer.chain:
        header["x5c"] = [base64.b64encode(der).decode("ascii") for der in signer.chain]
    else:
        header["kid"] = signing_kid(signer.key.public_key())
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


def signing_kid(key: VerifyingKey) -> str:
    """Return the kid of an authority's signing key: its RFC 7638 thumbprint."""
    if isinstance(key, RSAPublicKey):
        return key_id(key)
    return OKPKey.import_key(key).thumbprint()


def _outer_kid(text: str) -> str:
    """Return the kid of an envelope of the right form, which is no secret."""
    if len(text) > MAX_ENVELOPE_CHARS or not text.isascii():
        raise EnvelopeRefused
    parts = text.encode("ascii").split(_DOT)
    if len(parts) != _SEALED_PARTS:
        raise EnvelopeRefused
    try:
        header = _parsed(parts[0])
        for part in parts:
            _decoded(part)
    except ValueError:
        raise EnvelopeRefused from None
    kid = header.pop("kid", None)
    exact = {"alg": _KEY_ALGORITHM, "enc": _CONTENT_ALGORITHM, "cty": "JWT"}
    if header != exact or not isinstance(kid, str):
        raise EnvelopeRefused
    return kid


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
        try:
            cek = self._unwrap(ciphertext)
        except UnsealFailed:
            cek = b""
        return cek if len(cek) == _CEK_BYTES else secrets.token_bytes(_CEK_BYTES)


def _decrypted(text: str, decrypt: Unwrap) -> bytes:
    """Return the signed part; the stand-in for one if the envelope does not open."""
    algorithms = [_KEY_ALGORITHM, _CONTENT_ALGORITHM]
    try:
        opened = jwe.decrypt_compact(text, _ImportKey(decrypt), algorithms=algorithms)
    except (JoseError, ValueError):
        return _stand_in()
    return opened.plaintext or b""


def _verified(signed: bytes, pinned: PinnedKeys) -> tuple[str | None, bytes]:
    """Return the authority that signed, or None, and the payload."""
    authority, key, algorithm = _signer(signed, pinned)
    if authority is None:
        signed = _stand_in()
    try:
        found = jws.deserialize_compact(signed, _jwk(key), algorithms=[algorithm])
    except (JoseError, ValueError):
        return None, b""
    return authority, found.payload


def _signer(signed: bytes, pinned: PinnedKeys) -> tuple[str | None, VerifyingKey, str]:
    """Return whose signature this claims to be; None and a stand-in for nobody's."""
    nobody = None, _standing_ed25519().public_key(), ED25519
    parts = signed.split(_DOT)
    try:
        if len(parts) != _SIGNED_PARTS:
            return nobody
        header = _parsed(parts[0])
        chain = _chain(header)
    except ValueError:
        return nobody
    algorithm, kid = header.get("alg"), header.get("kid")
    named = {"alg", "typ", "x5c" if chain else "kid"}
    if set(header) != named or header["typ"] != TYPE:
        return nobody
    # In a tuple: JSON's lists have no place in a set.
    if algorithm not in (PS256, ED25519) or not (chain or isinstance(kid, str)):
        return nobody
    found = pinned.find(kid=kid, algorithm=algorithm, chain=chain)
    if found is None or not _fits(found[1], algorithm):
        return nobody
    return *found, algorithm


def _fits(key: VerifyingKey, algorithm: str) -> bool:
    # Else a public RSA key could be taken for whatever the header says it is.
    wanted = RSAPublicKey if algorithm == PS256 else Ed25519PublicKey
    return isinstance(key, wanted)


def _chain(header: dict[str, Any]) -> tuple[bytes, ...]:
    """Return the certificates of a header, in DER.

    Raises:
        ValueError: it has some, but not as they must be.
    """
    if "x5c" not in header:
        return ()
    texts = header["x5c"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_CHAIN:
        raise ValueError("too many certificates, or none")
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("a certificate is no text")
    return tuple(binascii.a2b_base64(text, strict_mode=True) for text in texts)


def _parsed(part: bytes) -> dict[str, Any]:
    """Return a header.

    Raises:
        ValueError: it is none, or names a member twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a member is there twice")
        return found

    try:
        text = _decoded(part).decode("utf-8")
        header = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(header, dict):
        raise ValueError("no object")  # noqa: TRY004 - one error for every cause
    return header


def _decoded(part: bytes) -> bytes:
    """Return what canonical base64url without padding stands for.

    Raises:
        ValueError: another text is decoded to the same bytes, or to none.
    """
    raw = base64.b64decode(
        part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True
    )
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise ValueError("not canonical")
    return raw


def _jwk(key: RSAPrivateKey | Ed25519PrivateKey | VerifyingKey) -> RSAKey | OKPKey:
    if isinstance(key, RSAPrivateKey | RSAPublicKey):
        return RSAKey.import_key(key)
    return OKPKey.import_key(key)


# Stand-ins: work is done on them, and nothing is believed that they say.


@cache
def _standing_ed25519() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(32))


@cache
def _stand_in() -> bytes:
    """Return a signed part like any other, by nobody."""
    header = {"alg": ED25519, "typ": TYPE, "kid": "0" * 43}
    payload = b" " * 512
    key = OKPKey.import_key(_standing_ed25519())
    return jws.serialize_compact(header, payload, key, algorithms=[ED25519]).encode()
