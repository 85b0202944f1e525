"""A signing certificate, perhaps with a new key, takes the place of the one before.

Two files cannot be replaced at once, but one can: the key's rename is the moment at
which a new pair counts. What was laid ready beside them::

    signing_private.next.pem       only if the key is new
    signing_certificate.next.pem

is written whole first, then the key is renamed, then the certificate. Between the two
`signing_files.load` finds the key's certificate where it lay ready. So a process that
is killed anywhere leaves the old pair or the new one; `settle` takes away the rest.

The key before is not kept: nothing that it signed is opened by it.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from otpseal.adapters import signing_files
from otpseal.adapters.file_keys import create_file, sync_directory
from otpseal.adapters.signing_files import (
    NEXT_CERTIFICATE_NAME,
    SIGNING_CERTIFICATE_NAME,
    SIGNING_KEY_NAME,
    SigningFiles,
)
from otpseal.errors import KeyUnavailable

NEXT_KEY_NAME: Final = "signing_private.next.pem"


class Step(StrEnum):
    """The points between which a renewal can be interrupted."""

    KEY_READY = "key-ready"
    READY = "ready"
    RECORDED = "recorded"
    KEY_RENAMED = "key-renamed"
    RENAMED = "renamed"


#: Told of each step when it is done; for tests, which kill the process there.
Seam = Callable[[Step], None]


def unseen(_step: Step) -> None:
    """Do nothing at a step."""


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Let no other process of this machine renew meanwhile.

    Raises:
        KeyUnavailable: the directory cannot be opened.
    """
    # On the directory itself: no file to be left behind.
    with _explained(directory):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def settle(directory: Path, passphrase: bytes | None) -> SigningFiles:
    """Finish a renewal that was interrupted, or take away what it laid ready.

    Returns what the authority signs with, before and after alike.

    Raises:
        KeyUnavailable, KeyRefused: as `signing_files.load`, or it cannot be changed.
    """
    files = signing_files.load(directory, passphrase)
    placed = signing_files.load_certificate(directory / SIGNING_CERTIFICATE_NAME)
    # Then it was loaded from where it lay ready.
    if placed != files.certificate:
        promote(directory, new_key=False, reached=unseen)
    withdraw(directory)
    return files


def lay_ready(
    directory: Path,
    files: SigningFiles,
    passphrase: bytes | None,
    *,
    new_key: bool,
    reached: Seam,
) -> None:
    """Write the new certificate, and the new key, beside those that count.

    Raises:
        KeyUnavailable: they cannot be written; nothing lies ready.
    """
    key_pem = signing_files.private_pem(files.key, passphrase)
    certificate_pem = signing_files.certificate_pem(files.certificate)
    try:
        with _explained(directory):
            if new_key:
                create_file(directory / NEXT_KEY_NAME, key_pem, mode=0o600)
                reached(Step.KEY_READY)
            create_file(directory / NEXT_CERTIFICATE_NAME, certificate_pem, mode=0o644)
    except KeyUnavailable:
        with contextlib.suppress(KeyUnavailable):
            withdraw(directory)
        raise
    reached(Step.READY)


def promote(directory: Path, *, new_key: bool, reached: Seam) -> None:
    """Let what lies ready count.

    Raises:
        KeyUnavailable: it cannot be renamed; the pair before or the new one counts.
    """
    with _explained(directory):
        if new_key:
            (directory / NEXT_KEY_NAME).replace(directory / SIGNING_KEY_NAME)
            # The certificate's rename must not be durable before the key's.
            sync_directory(directory)
            reached(Step.KEY_RENAMED)
        (directory / NEXT_CERTIFICATE_NAME).replace(
            directory / SIGNING_CERTIFICATE_NAME
        )
        sync_directory(directory)
    reached(Step.RENAMED)


def withdraw(directory: Path) -> None:
    """Take away what lies ready.

    Raises:
        KeyUnavailable: it cannot be removed.
    """
    with _explained(directory):
        for name in (NEXT_KEY_NAME, NEXT_CERTIFICATE_NAME):
            (directory / name).unlink(missing_ok=True)
        sync_directory(directory)


def replace(path: Path, content: bytes) -> None:
    """Write a public file whole or not at all, in place of the one before.

    Raises:
        KeyUnavailable: it cannot be written.
    """
    whole = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with _explained(path.parent):
        create_file(whole, content, mode=0o644)
        whole.replace(path)
        sync_directory(path.parent)


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyUnavailable(
            f"the signing files in {directory} cannot be changed: {error.strerror}."
            " Run this as the user whom they belong to"
        ) from None
