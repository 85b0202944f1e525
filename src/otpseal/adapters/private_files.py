"""Files of private keys and what lies beside them, whatever the kind of key.

A file is there whole or not at all, a private one is read only if nobody else could
have, and one process of this machine at a time changes what belongs together.

Leaves out: which keys are where.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from otpseal import keypolicy
from otpseal.errors import KeyRefused, KeyUnavailable

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_RANDOM_BYTES: Final = 8
_RANDOM_NAME: Final = "[0-9a-f]" * (2 * _RANDOM_BYTES)


def create_file(path: Path, content: bytes, *, mode: int) -> None:
    """Create `path` with all of `content` or not at all; never replaces a file.

    Raises:
        FileExistsError: `path` exists.
        OSError: it cannot be written.
    """
    with _whole(path, content, mode) as temporary:
        # link() fails if the name is taken, where rename() would replace it.
        os.link(temporary, path)
    sync_directory(path.parent)


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write `path` whole or not at all, in place of the file before, if there is one.

    Takes away what a process left that was killed here, so nobody else may do this to
    the same file meanwhile: see `held`.

    Raises:
        OSError: it cannot be written.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_RANDOM_NAME}"):
        left.unlink(missing_ok=True)
    with _whole(path, content, mode) as temporary:
        temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was created or renamed in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Let no other process of this machine change what is in a directory meanwhile.

    Raises:
        KeyUnavailable: the directory cannot be opened.
    """
    # On the directory itself: no file to be left behind.
    with change_explained(directory):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def change_explained(directory: Path) -> Iterator[None]:
    """Say of an `OSError` what it means for who changes key files.

    Raises:
        KeyUnavailable: in its place.
    """
    try:
        yield
    except OSError as error:
        raise KeyUnavailable(
            f"the key files in {directory} cannot be changed: {error.strerror}. Run"
            " this as the user whom they belong to"
        ) from None


def read_private(path: Path) -> bytes:
    """Return what is in a file of private keys, one byte more than is taken at most.

    Raises:
        KeyUnavailable: group or others may do something with it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        # The mode of the open file, not of the name: no race between the two.
        refuse_open_to_others(stat.S_IMODE(os.fstat(file.fileno()).st_mode), path)
        return file.read(keypolicy.MAX_PEM_BYTES + 1)


def refuse_open_to_others(mode: int, path: Path) -> None:
    """Check that the mode of a private key's file lets nobody else in.

    Raises:
        KeyUnavailable: group or others may do something with it.
    """
    if mode & _OPEN_TO_OTHERS:
        raise KeyUnavailable(
            f"the private key {path} is open to group or others (mode"
            f" {mode:04o}): run `chmod 600 {path}`, and treat the key as leaked"
            " if others could log in here"
        )


def parse_private(pem: bytes, passphrase: bytes | None, path: Path) -> PrivateKeyTypes:
    """Return a private key of any kind; what is encrypted needs the passphrase.

    Args:
        pem: PKCS#8.
        passphrase: not asked for if the key is not encrypted.
        path: where it was, for what is said of it.

    Raises:
        KeyUnavailable: it is encrypted, and there is no passphrase.
        KeyRefused: no private key, or another passphrase.
    """
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


@contextlib.contextmanager
def _whole(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Give a durable file with all of `content`, beside `path`; it is removed after."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
