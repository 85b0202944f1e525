"""A wall clock that one process alone has, to be turned while it runs (libfaketime)."""

import time
from pathlib import Path

import pytest
from server_fixture import OTPSEAL


def library() -> Path | None:
    """Return the library that is to be preloaded, or None."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


def library_or_skip() -> Path:
    """Return the library; skips the test that has none."""
    found = library()
    if found is None:
        pytest.skip("libfaketime is not installed (Debian: apt-get install faketime)")
    return found


class FakedClock:
    """The clock of the processes that are started by `program`.

    Args:
        directory: where its file is.
        lag_s: how long it may go on showing what it showed; reading the file each
            time makes a busy program ten times slower.
    """

    def __init__(self, directory: Path, *, lag_s: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lag_s = lag_s
        self._file = directory / "faketime"
        self._library = library_or_skip()
        self.ahead_s = 0.0
        self.turn_to(0)

    def turn_to(self, ahead_s: float) -> None:
        """Have it show so many seconds more than the machine's."""
        written = self._file.with_name("faketime.new")
        written.write_text(f"{ahead_s:+.3f}\n")
        written.replace(self._file)
        self.ahead_s = ahead_s

    def __call__(self) -> float:
        """Return the Unix time that it shows."""
        return time.time() + self.ahead_s

    @property
    def program(self) -> tuple[str, ...]:
        """The program with this clock, in the place of `OTPSEAL`."""
        settings = {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_NO_CACHE": 0 if self._lag_s else 1,
            "FAKETIME_CACHE_DURATION": self._lag_s,
            # Waits are measured by it, and leaps are told by it.
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "NO_FAKE_STAT": 1,
        }
        given = (f"{name}={value}" for name, value in settings.items())
        return ("env", *given, *OTPSEAL)
