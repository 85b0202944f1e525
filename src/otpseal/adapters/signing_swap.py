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
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

from otpseal import certificates, keypolicy
from otpseal.adapters import signing_files
from otpseal.adapters.private_files import (
    change_explained,
    create_file,
    sync_directory,
)
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
    key_pem = keypolicy.private_pem(files.key, passphrase)
    certificate_pem = certificates.pem(files.certificate)
    try:
        with change_explained(directory):
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
    with change_explained(directory):
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
    with change_explained(directory):
        for name in (NEXT_KEY_NAME, NEXT_CERTIFICATE_NAME):
            (directory / name).unlink(missing_ok=True)
        sync_directory(directory)
