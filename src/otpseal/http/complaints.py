"""What the log is told when the store fails: once a minute for each cause.

A stranger can make a request fail again and again; he must not fill the disk with
lines about it, least of all when it is the full disk that they are about.
"""

import logging
import time
from typing import Final

from otpseal.errors import OtpsealError

PERIOD_S: Final = 60.0
_MAX_CAUSES: Final = 64

_log = logging.getLogger("otpseal.http")


class Complaints:
    """Logs errors, each text at most once in `PERIOD_S`, with a count of the rest."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}

    def say(self, where: str, error: OtpsealError) -> None:
        """Log `error`, or count it."""
        text = str(error)
        now = time.monotonic()
        said_at, untold = self._said.get(text, (-PERIOD_S, 0))
        if now - said_at < PERIOD_S:
            self._said[text] = (said_at, untold + 1)
            return
        if len(self._said) >= _MAX_CAUSES:
            self._said.clear()
        self._said[text] = (now, 0)
        again = f" ({untold} times more in the last minute)" if untold else ""
        _log.error("%s: %s%s", where, text, again)
