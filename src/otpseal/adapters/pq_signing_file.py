"""An authority's signing pair of the suite pq in a file, beside its other keys.

One PEM file, 0600, with two private keys in PKCS#8: Ed25519, then ML-DSA-65 (as its
seed, draft-ietf-lamps-dilithium-certificates). One file, since neither signs without
the other and a pair must not be half there.
"""

import os
import re
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from otpseal import keypolicy
from otpseal.adapters import signing_files
from otpseal.adapters.private_files import create_file, parse_private, read_private
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.pq_keys import PqSigner

PQ_SIGNING_NAME: Final = "pq_signing_private.pem"

_BLOCK: Final = re.compile(
    rb"-----BEGIN ((?:ENCRYPTED )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)


def exists(directory: Path) -> bool:
    """Tell whether the pair was made here."""
    return os.path.lexists(directory / PQ_SIGNING_NAME)


def refuse_existing(directory: Path) -> None:
    """Check that there is no pair yet; raises as `signing_files.refuse_existing`."""
    signing_files.refuse_existing(directory, (PQ_SIGNING_NAME,))


def write(directory: Path, signer: PqSigner, passphrase: bytes | None) -> None:
    """Write the pair, whole or not at all, over no other.

    Raises:
        KeyUnavailable: there is one, or it cannot be written.
    """
    refuse_existing(directory)
    content = b"".join(
        keypolicy.private_pem(key, passphrase)
        for key in (signer.ed25519, signer.ml_dsa)
    )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_file(directory / PQ_SIGNING_NAME, content, mode=0o600)
    except OSError as error:
        raise KeyUnavailable(
            f"the pair cannot be written to {directory}: {error.strerror}"
        ) from None


def load(directory: Path, passphrase: bytes | None = None) -> PqSigner:
    """Load what `write` wrote.

    Raises:
        KeyUnavailable: missing, unreadable, open to others, or locked.
        KeyRefused: not an Ed25519 key and then an ML-DSA-65 key.
    """
    path = directory / PQ_SIGNING_NAME
    pem = _read(path)
    keys = [
        parse_private(found.group(), passphrase, path) for found in _BLOCK.finditer(pem)
    ]
    # Nothing between them or after: a third key would be one that nobody asked for.
    is_all = len(pem) <= keypolicy.MAX_PEM_BYTES and not _BLOCK.sub(b"", pem).strip()
    if is_all:
        match keys:
            case [Ed25519PrivateKey() as ed25519, MLDSA65PrivateKey() as ml_dsa]:
                return PqSigner(ed25519, ml_dsa)
    raise KeyRefused(f"{path} does not hold an Ed25519 key and an ML-DSA-65 key")


def _read(path: Path) -> bytes:
    try:
        return read_private(path)
    except FileNotFoundError:
        raise KeyUnavailable(f"{path} is missing: restore it from a backup") from None
    except OSError as error:
        raise KeyUnavailable(f"{path} cannot be read: {error.strerror}") from None
