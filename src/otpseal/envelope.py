"""Sealed seeds, the classic form: a seed encrypted to the service's import key.

Bytes (docs/protocol.md): standard base64, one line, of RSA-OAEP(SHA-256,
MGF1-SHA-256, no label) over exactly 64 ASCII hex characters, the seed's 32 bytes.

Leaves out: who sealed it (anyone with the public key can), which key opens it (the
caller hands in the decryption), and where the seed then goes.
"""

import base64
import binascii
import re
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal.errors import UnsealFailed
from otpseal.padding import oaep_encrypt
from otpseal.secret import Secret

SEED_BYTES = 32

#: Longest text that is looked at: 8192 bits in base64 with line breaks.
MAX_SEALED_SEED_CHARS = 2048

_SEED_TEXT = re.compile(rb"[0-9a-fA-F]{64}\n?")


def seal(seed: Secret, key: RSAPublicKey) -> str:
    """Seal a 32-byte seed to `key`; 684 characters for a 4096-bit key."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a classic seed has {SEED_BYTES} bytes")
    ciphertext = oaep_encrypt(key, seed.reveal().hex().encode("ascii"))
    return base64.b64encode(ciphertext).decode("ascii")


def open_sealed(text: str, decrypt: Callable[[bytes], bytes]) -> Secret:
    """Open a sealed seed with `decrypt`, the OAEP decryption of the import key.

    Raises:
        UnsealFailed: for every cause alike.
    """
    return parse_seed_text(decrypt(_ciphertext(text)))


def parse_seed_text(plaintext: bytes) -> Secret:
    """Return the seed behind 64 hex characters; one trailing newline is allowed.

    Raises:
        UnsealFailed: anything else.
    """
    # fullmatch, and [0-9] by bytes: `$` would let a second newline through.
    if not _SEED_TEXT.fullmatch(plaintext):
        raise UnsealFailed
    return Secret(bytes.fromhex(plaintext.decode("ascii")))


def _ciphertext(text: str) -> bytes:
    if len(text) > MAX_SEALED_SEED_CHARS:
        raise UnsealFailed
    # White space that transports add: blanks around the whole, line breaks anywhere.
    compact = text.strip(" \t\r\n").replace("\r", "").replace("\n", "")
    try:
        # Strict: the standard alphabet, whole groups, padding at the end only.
        return binascii.a2b_base64(compact, strict_mode=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise UnsealFailed from None
