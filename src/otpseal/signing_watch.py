"""An authority's signing files as they are now: a renewal needs no restart.

Each look costs a few `stat` calls; only files that changed are read again. What cannot
be loaded then is said in the log, and the authority goes on with what it had.
"""

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any, Final

from otpseal.adapters.signing_files import (
    CA_CERTIFICATE_NAME,
    CA_KEY_NAME,
    NEXT_CERTIFICATE_NAME,
    SIGNING_CERTIFICATE_NAME,
    SIGNING_KEY_NAME,
    SigningFiles,
)
from otpseal.config import PinnedBy, Settings
from otpseal.enrolment import EnrolmentDesk
from otpseal.errors import OtpsealError
from otpseal.ports import Clock
from otpseal.unlocking import Opened
from otpseal.validity import Validity, renewal_due
from otpseal.wiring_authority import (
    jwks,
    load_signing,
    make_desk,
    signing_directory,
)

_NAMES: Final = (
    SIGNING_KEY_NAME,
    SIGNING_CERTIFICATE_NAME,
    NEXT_CERTIFICATE_NAME,
    CA_KEY_NAME,
    CA_CERTIFICATE_NAME,
)

_log = logging.getLogger("otpseal")

_Stamp = tuple[tuple[int, ...] | None, ...]


class SigningWatch:
    """The files that an authority signs with, read again when they were replaced.

    Args:
        settings: name and place.
        files: what was loaded.
        stamp: how the files were before that.
    """

    def __init__(self, settings: Settings, files: SigningFiles, stamp: _Stamp) -> None:
        self._settings = settings
        self._directory = signing_directory(settings)
        self._files = files
        self._stamp = stamp
        self._lock = threading.Lock()

    def files(self) -> SigningFiles:
        """Return what is to be signed with now."""
        # Before they are read: what changes meanwhile is seen the next time.
        stamp = _stamp_of(self._directory)
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                self._read()
            return self._files

    def desk(self, opened: Opened) -> EnrolmentDesk:
        """Return what answers subscribers, with what is to be signed with now."""
        return make_desk(opened, self._settings, self.files())

    def jwks(self) -> dict[str, Any]:
        """Return the signing key that counts now, as a JWK Set."""
        return jwks([self.files().key.public_key()])

    def _read(self) -> None:
        try:
            found = load_signing(self._settings)
        except OtpsealError as error:
            _log.error("the signing files changed, and are not taken: %s", error)
            return
        if found is None:
            _log.error(
                "the signing files are gone: what they held is used until a restart"
            )
            return
        self._files = found
        _log.info(
            "the signing files changed: the certificate is %s",
            f"{found.certificate.serial_number:x}",
        )

    def warn(self, clock: Clock = time.time) -> None:
        """Log it if the certificate that is sent needs to be renewed."""
        said = _due(self._settings, self.files(), clock())
        if said is not None:
            _log.warning("%s", said)


def watch(settings: Settings) -> SigningWatch | None:
    """Load the signing files, to be followed; None if there are none.

    Raises:
        KeyUnavailable, KeyRefused, ConfigurationError: as `load_signing`.
    """
    stamp = _stamp_of(signing_directory(settings))
    files = load_signing(settings)
    return None if files is None else SigningWatch(settings, files, stamp)


def due(settings: Settings, *, clock: Clock = time.time) -> str | None:
    """Return what is to be said about the certificate that is sent, if anything."""
    try:
        files = load_signing(settings)
    except OtpsealError as error:
        return str(error)
    return None if files is None else _due(settings, files, clock())


def _due(settings: Settings, files: SigningFiles, now: float) -> str | None:
    if settings.authority_pinned_by is not PinnedBy.CA:
        return None  # it is not sent, and its end is nobody's concern
    return renewal_due(
        Validity.of(files.certificate), Validity.of(files.ca_certificate), now
    )


def _stamp_of(directory: Path) -> _Stamp:
    return tuple(_stamp_of_file(directory / name) for name in _NAMES)


def _stamp_of_file(path: Path) -> tuple[int, ...] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
    return None
