"""Is the service fit to work? One reason if not."""

import os
from pathlib import Path
from typing import Final

from otpseal.errors import OtpsealError
from otpseal.ports import Clock, CodeLog
from otpseal.service import Service

#: Below this share of free space the service says so before writing fails.
MIN_FREE: Final = 0.05

#: The code log has a line a minute; this long without one is a fault, in seconds.
MAX_CODE_LOG_AGE_S: Final = 150.0


class HealthCheck:
    """Looks at the store, the disk and the code log.

    Args:
        service: whose store and seed are looked at.
        clock: gives the Unix time.
        directories: where state is written.
        code_log: the one-line-a-minute file, if one is configured.
    """

    def __init__(
        self,
        service: Service,
        *,
        clock: Clock,
        directories: tuple[Path, ...],
        code_log: CodeLog | None,
    ) -> None:
        self._service = service
        self._clock = clock
        self._directories = directories
        self._code_log = code_log
        self._started_at = clock()

    def reason(self) -> str | None:
        """Return what is wrong, in words that hold no secret, or None."""
        try:
            account = self._service.examine()
        except OtpsealError as error:
            return error.code.replace("_", " ")
        for directory in self._directories:
            if free_share(directory) < MIN_FREE:
                return "less than 5 % of the disk is free"
        if account is not None and self._code_log is not None:
            signs = (
                self._code_log.newest_line_at() or 0.0,
                account.imported_at,
                self._started_at,
            )
            # abs(): after the clock was set back, a line from the future is no sign.
            age = min(abs(self._clock() - sign) for sign in signs)
            if age > MAX_CODE_LOG_AGE_S:
                return "the code log has had no line for more than 150 s"
        return None


def free_share(directory: Path) -> float:
    """Return the share of a disk that is free, 0..1; 0 if it cannot be looked at."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0.0
    return status.f_bavail / status.f_blocks if status.f_blocks else 1.0
