"""Files that commands read from people and leave behind for them.

Sealed seeds, envelopes, receipts and proofs.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from otpseal.errors import ConfigurationError
from otpseal.signed_envelope import MAX_ENVELOPE_CHARS


def replace_file(
    path: Path, content: bytes, *, advice: str, is_public: bool = False
) -> None:
    """Write the file whole or not at all, in place of the one before.

    It is its owner's alone to read (the umask's), unless `is_public`.

    Raises:
        ConfigurationError: it cannot be written; ends with `advice`.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        try:
            with temporary.open("xb") as file:
                if is_public:
                    os.fchmod(file.fileno(), 0o644)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}; {advice}"
        ) from None


def read_sealed(file: str) -> str:
    """Return what is in a file of a sealed seed, of whichever form; "-" for stdin.

    Raises:
        ConfigurationError: it cannot be read.
    """
    # One character more than is ever accepted: enough to be refused as too long.
    limit = MAX_ENVELOPE_CHARS + 1
    if file == "-":
        raw = sys.stdin.buffer.read(limit)
    else:
        try:
            with Path(file).open("rb") as stream:
                raw = stream.read(limit)
        except OSError as error:
            raise ConfigurationError(
                f"{file} cannot be read: {error.strerror}"
            ) from None
    return raw.decode("ascii", errors="replace")


@contextlib.contextmanager
def new_private_file(name: str, *, force: bool) -> Iterator[BinaryIO]:
    """Give a file that only its owner may read; it takes its name when it is whole.

    Args:
        name: its path; "-" for stdout, which gets what is written at once.
        force: whether a file of that name is replaced.

    Raises:
        ConfigurationError: there is one already, or it cannot be written.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.exists() and not force:
        raise _exists(path)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if force:
                temporary.replace(path)
            else:
                # link() fails if the name was taken meanwhile.
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}; nothing was left there"
        ) from None


def _exists(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} exists: name another file, or replace it with --force"
    )
