"""Commit proofs: a signature over a git commit hash, sealed to the authority.

Bytes (docs/protocol.md): the message is the 40 (SHA-1) or 64 (SHA-256) ASCII
characters of the hash; RSA-PSS(SHA-256, MGF1-SHA-256, the longest salt the signer's
key allows); then RSA-OAEP(SHA-256, MGF1-SHA-256, no label) to the authority's public
key; base64, one line.

Leaves out: which commit is meant and whether its tree is clean (the caller asks git),
and where keys come from. What a proof says is that the holder of the service's key
knew this hash, not when, nor who wrote the commit.
"""

import base64
import re
from collections.abc import Callable
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal.errors import ProofRefused, UnsealFailed
from otpseal.padding import (
    oaep_capacity,
    oaep_encrypt,
    oaep_key_bits,
    pss_max_salt_length,
    pss_verify,
)

#: Longest text that is looked at: 8192 bits in base64 with line breaks.
MAX_PROOF_CHARS: Final = 2048

# Git's own two formats. Not `$`: it would let a newline into the signed message.
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
# What transports add; `\s` would take Unicode's blanks too.
_WHITE_SPACE: Final = re.compile(r"[ \t\r\n]+")


class SigningKey(Protocol):
    """The half of `otpseal.ports.Keys` that signs."""

    @property
    def public_key(self) -> RSAPublicKey:
        """The public half."""

    def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
        """Sign with RSA-PSS-SHA-256 and that many bytes of salt."""


def create(commit: str, *, signer: SigningKey, authority_key: RSAPublicKey) -> str:
    """Sign `commit` and seal the signature; 1368 characters for an 8192-bit authority.

    Args:
        commit: the full hash, 40 or 64 lower-case hex digits.
        signer: the service's key pair.
        authority_key: whom the proof is for.

    Raises:
        ProofRefused: not a full commit hash, or the authority's key is too small to
            carry a signature by `signer`; says what size is needed.
    """
    message = _message(commit)
    signer_bits = signer.public_key.key_size
    check_capacity(authority_key, signer_bits=signer_bits)
    signature = signer.pss_sign(message, salt_length=pss_max_salt_length(signer_bits))
    sealed = oaep_encrypt(authority_key, signature)
    return base64.b64encode(sealed).decode("ascii")


def verify(
    proof: str,
    commit: str,
    *,
    decrypt: Callable[[bytes], bytes],
    signer_key: RSAPublicKey,
) -> None:
    """Open `proof` and check that it is about `commit` and by `signer_key`.

    Args:
        proof: base64 text; line breaks and white space do not matter.
        commit: the full hash, 40 or 64 lower-case hex digits.
        decrypt: the OAEP decryption of the authority's key.
        signer_key: the service's public key.

    Raises:
        ProofRefused: it is not, or `proof` is not a proof for this authority.
    """
    message = _message(commit)
    try:
        signature = decrypt(_ciphertext(proof))
    except UnsealFailed:
        raise ProofRefused(
            "the proof does not open with this authority key: it was made for another"
            " one, or is damaged"
        ) from None
    try:
        pss_verify(
            signer_key,
            signature,
            message,
            salt_length=pss_max_salt_length(signer_key.key_size),
        )
    except ProofRefused:
        raise ProofRefused(
            "the proof opens, but its signature is not by this public key over this"
            " commit"
        ) from None


def check_capacity(authority_key: RSAPublicKey, *, signer_bits: int) -> None:
    """Check that a signature by a key of `signer_bits` fits under `authority_key`.

    Raises:
        ProofRefused: it does not; 4624 bits are needed for 4096.
    """
    signature_bytes = (signer_bits + 7) // 8
    if oaep_capacity(authority_key.key_size) < signature_bytes:
        raise ProofRefused(
            f"the authority's key has {authority_key.key_size} bits, but a proof by a"
            f" {signer_bits}-bit key needs at least {oaep_key_bits(signature_bytes)}:"
            " ask the authority for a larger key (`otpseal keys generate --for"
            " authority` makes 8192 bits)"
        )


def _message(commit: str) -> bytes:
    if not _COMMIT.fullmatch(commit):
        raise ProofRefused(
            "a commit is named by its full hash: 40 or 64 lower-case hexadecimal"
            " digits and nothing else (`git rev-parse HEAD` prints it)"
        )
    return commit.encode("ascii")


def _ciphertext(proof: str) -> bytes:
    try:
        if len(proof) > MAX_PROOF_CHARS:
            raise ValueError("too long")
        return base64.b64decode(_WHITE_SPACE.sub("", proof), validate=True)
    except ValueError:
        raise ProofRefused("the proof is not standard base64 on one line") from None
