"""An authority's signing pair of the suite pq in a file, beside its other keys.

One PEM file, 0600, with two private keys in PKCS#8: Ed25519, then ML-DSA-65 (as its
seed, draft-ietf-lamps-dilithium-certificates). One file, since neither signs without
the other and a pair must not be half there.
"""

import os
import re
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from otpseal import keypolicy
from otpseal.adapters.file_keys import create_file, refuse_open_to_others
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
    """Check that there is no pair yet.

    Raises:
        KeyUnavailable: names the file that exists.
    """
    if exists(directory):
        raise KeyUnavailable(
            f"{directory / PQ_SIGNING_NAME} exists and is not overwritten: services"
            " trust what was made with it. Move it away first if it is to be replaced"
        )


def write(directory: Path, signer: PqSigner, passphrase: bytes | None) -> None:
    """Write the pair, whole or not at all, over no other.

    Raises:
        KeyUnavailable: there is one, or it cannot be written.
    """
    refuse_existing(directory)
    content = b"".join(_pem(key, passphrase) for key in (signer.ed25519, signer.ml_dsa))
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
    keys = [_key(path, found.group(), passphrase) for found in _BLOCK.finditer(pem)]
    # Nothing between them or after: a third key would be one that nobody asked for.
    is_all = len(pem) <= keypolicy.MAX_PEM_BYTES and not _BLOCK.sub(b"", pem).strip()
    if is_all:
        match keys:
            case [Ed25519PrivateKey() as ed25519, MLDSA65PrivateKey() as ml_dsa]:
                return PqSigner(ed25519, ml_dsa)
    raise KeyRefused(f"{path} does not hold an Ed25519 key and an ML-DSA-65 key")


def _pem(key: Ed25519PrivateKey | MLDSA65PrivateKey, passphrase: bytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # The mode of the open file, not of the name: no race between the two.
            refuse_open_to_others(stat.S_IMODE(os.fstat(file.fileno()).st_mode), path)
            return file.read(keypolicy.MAX_PEM_BYTES + 1)
    except FileNotFoundError:
        raise KeyUnavailable(f"{path} is missing: restore it from a backup") from None
    except OSError as error:
        raise KeyUnavailable(f"{path} cannot be read: {error.strerror}") from None


def _key(path: Path, pem: bytes, passphrase: bytes | None) -> object:
    encrypted = b"ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise KeyUnavailable(
            f"{path} is protected by a passphrase: set OTPSEAL_KEY_PASSPHRASE_FILE to"
            " a file that holds it"
        )
    try:
        return serialization.load_pem_private_key(
            pem, password=passphrase if encrypted else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyRefused(
            f"{path} is no private key in PEM form, or has another passphrase"
        ) from None
