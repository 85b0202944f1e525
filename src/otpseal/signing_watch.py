"""An authority's signing files as they are now: a renewal needs no restart.

Each look costs a few `stat` calls; only files that changed are read again. What cannot
be loaded then is said in the log, and the authority goes on with what it had; it looks
again when they change, or after a while: what failed may have been no fault of theirs.
"""

import contextlib
import logging
import math
import threading
import time
from pathlib import Path
from typing import Any, Final

from otpseal.adapters.pq_signing_file import PQ_SIGNING_NAME
from otpseal.adapters.signing_files import (
    CA_CERTIFICATE_NAME,
    CA_KEY_NAME,
    NEXT_CERTIFICATE_NAME,
    SIGNING_CERTIFICATE_NAME,
    SIGNING_KEY_NAME,
    SigningFiles,
)
from otpseal.config import PinnedBy, Settings
from otpseal.errors import OtpsealError
from otpseal.issuing import Identity
from otpseal.ports import Clock
from otpseal.pq_keys import PqSigner
from otpseal.validity import Validity, renewal_due
from otpseal.wiring_authority import (
    identity_of,
    jwks,
    load_signing,
    signing_directory,
)
from otpseal.wiring_pq import load_pq, pq_public_keys

_NAMES: Final = (
    SIGNING_KEY_NAME,
    SIGNING_CERTIFICATE_NAME,
    NEXT_CERTIFICATE_NAME,
    CA_KEY_NAME,
    CA_CERTIFICATE_NAME,
    PQ_SIGNING_NAME,
)

#: How often files are read again that could not be loaded, in seconds.
RETRY_S: Final = 60.0

_log = logging.getLogger("otpseal")

_Stamp = tuple[tuple[int, ...] | None, ...]


class SigningWatch:
    """The files that an authority signs with, read again when they were replaced.

    Args:
        settings: name and place.
        files: what was loaded.
        pair: what envelopes of the suite pq are signed with, if there is one.
        stamp: how the files were before that.
        monotonic: seconds that only ever rise.
    """

    def __init__(
        self,
        settings: Settings,
        files: SigningFiles,
        pair: PqSigner | None,
        stamp: _Stamp,
        *,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._settings = settings
        self._directory = signing_directory(settings)
        self._files = files
        self._pair = pair
        self._stamp = stamp
        self._monotonic = monotonic
        self._retry_at = math.inf
        self._lock = threading.Lock()

    def files(self) -> SigningFiles:
        """Return what is to be signed with now."""
        return self._found()[0]

    def _found(self) -> tuple[SigningFiles, PqSigner | None]:
        # Before they are read: what changes meanwhile is seen the next time.
        stamp = _stamp_of(self._directory)
        with self._lock:
            at = self._monotonic()
            if stamp != self._stamp or at >= self._retry_at:
                self._stamp = stamp
                self._retry_at = math.inf if self._read() else at + RETRY_S
            return self._files, self._pair

    def identity(self) -> Identity:
        """Return what is to be signed with now, and under which name."""
        files, pair = self._found()
        return identity_of(self._settings, files, pair)

    def jwks(self) -> dict[str, Any]:
        """Return the signing keys that count now, as a JWK Set."""
        files, pair = self._found()
        return jwks([files.key.public_key(), *pq_public_keys(pair)])

    def _read(self) -> bool:
        try:
            found, pair = load_signing(self._settings), load_pq(self._settings)
        except OtpsealError as error:
            _log.error("the signing files changed, and are not taken: %s", error)
            return False
        if found is None or (pair is None and self._pair is not None):
            _log.error(
                "the signing files are gone: what they held is used until a restart"
            )
            return False
        self._files, self._pair = found, pair
        _log.info(
            "the signing files changed: the certificate is %s",
            f"{found.certificate.serial_number:x}",
        )
        return True

    def warn(self, clock: Clock = time.time) -> None:
        """Log it if the certificate that is sent needs to be renewed."""
        said = _due(self._settings, self.files(), clock())
        if said is not None:
            _log.warning("%s", said)


def watch(
    settings: Settings, *, monotonic: Clock = time.monotonic
) -> SigningWatch | None:
    """Load the signing files, to be followed; None if there are none.

    Raises:
        KeyUnavailable, KeyRefused, ConfigurationError: as `load_signing`.
    """
    stamp = _stamp_of(signing_directory(settings))
    files, pair = load_signing(settings), load_pq(settings)
    if files is None:
        return None
    return SigningWatch(settings, files, pair, stamp, monotonic=monotonic)


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
