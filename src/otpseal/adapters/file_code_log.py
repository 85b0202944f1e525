"""The code log as a file: append, repair, rotate.

Nothing but whole lines `YYYY-MM-DD HH:MM:SS - 2FA Code: 123456` is ever in it
(CONTRACT "Files"). A write that fails half-way is taken back at once; one that a
crash tore is cut off before the next append.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from otpseal.errors import CodeLogUnwritable

_LINE: Final = re.compile(rb"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}) - 2FA Code: \d{6}\n")
_LINE_BYTES: Final = 39
_TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
_MODE: Final = 0o640
_MINUTE_S: Final = 60
_CAREFULLY: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | _CAREFULLY


class FileCodeLog:
    """`otpseal.ports.CodeLog` on a path.

    Args:
        path: the code log; its directory must exist.
        max_bytes: the file is renamed to `<path>.1` before it would grow beyond.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes

    @contextlib.contextmanager
    def locked(self) -> Iterator["OpenCodeLog"]:
        """See `otpseal.ports.CodeLog`."""
        # A lock file of its own: the log itself may be deleted or renamed under us.
        lock_path = self._path.with_name(f".{self._path.name}.lock")
        with self._explained(), contextlib.ExitStack() as stack:
            lock = os.open(lock_path, _FLAGS, 0o600)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield stack.enter_context(
                OpenCodeLog(self._path, self._rotated, self._max_bytes)
            )

    def newest_line_at(self) -> float | None:
        """See `otpseal.ports.CodeLog`."""
        for path in (self._path, self._rotated):
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                # Neither waits for the writer of a FIFO nor follows a link.
                fd = os.open(path, os.O_RDONLY | _CAREFULLY)
                stack.callback(os.close, fd)
                if (found := _newest(_tail(fd))) is not None:
                    return found
        return None

    def ends_well(self) -> bool:
        """Tell whether it is missing, empty, or ends with a line of its form."""
        try:
            fd = os.open(self._path, os.O_RDONLY | _CAREFULLY)
        except FileNotFoundError:
            return True
        except OSError:  # a link, or not ours to read
            return False
        try:
            tail = _tail(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else b"?"
        finally:
            os.close(fd)
        return not tail or _LINE.fullmatch(tail[-_LINE_BYTES:]) is not None

    @property
    def _rotated(self) -> Path:
        return self._path.with_name(self._path.name + ".1")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CodeLogUnwritable(
                f"the code log {self._path} cannot be written:"
                f" {error.strerror or error}. The next run tries again; check that it"
                " is a regular file in a directory that this user may write to, on a"
                " disk with room"
            ) from None


class OpenCodeLog:
    """`otpseal.ports.CodeLogFile`: the file while the lock is held."""

    def __init__(self, path: Path, rotated: Path, max_bytes: int) -> None:
        self._path = path
        self._rotated = rotated
        self._max_bytes = max_bytes
        self._fd = _open_regular(path)
        self._size_before: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _size(self) -> int:
        return os.fstat(self._fd).st_size

    def newest_minute(self) -> int | None:
        """See `otpseal.ports.CodeLogFile`."""
        newest = _newest(_tail(self._fd))
        return None if newest is None else int(newest) // _MINUTE_S

    def torn_bytes(self) -> int:
        """See `otpseal.ports.CodeLogFile`."""
        return self._size() - self._end_of_lines()

    def repair(self) -> None:
        """See `otpseal.ports.CodeLogFile`."""
        os.ftruncate(self._fd, self._end_of_lines())

    def _end_of_lines(self) -> int:
        end = self._size()
        while end > 0 and os.pread(self._fd, 1, end - 1) != b"\n":
            # In steps of a block: a torn write after a full disk may be long.
            start = max(0, end - 4096)
            end = start + os.pread(self._fd, end - start, start).rfind(b"\n") + 1
        return end

    def append(self, now: float, code: str) -> None:
        """See `otpseal.ports.CodeLogFile`."""
        at = datetime.fromtimestamp(now, UTC).strftime(_TIME_FORMAT)
        line = f"{at} - 2FA Code: {code}\n".encode("ascii")
        if self._size() + len(line) > self._max_bytes:
            self._rotate()
        self._size_before = self._size()
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(0, "only a part of the line could be written")
            os.fsync(self._fd)
        except OSError:
            self.undo()
            raise

    def undo(self) -> None:
        """See `otpseal.ports.CodeLogFile`."""
        if self._size_before is not None:
            os.ftruncate(self._fd, self._size_before)
            self._size_before = None

    def _rotate(self) -> None:
        self._path.rename(self._rotated)
        # Opened before the old one is closed: if it fails, `__exit__` must not close
        # a number that meanwhile belongs to somebody else.
        new = _open_regular(self._path)
        os.close(self._fd)
        self._fd = new


def _open_regular(path: Path) -> int:
    with contextlib.ExitStack() as stack:
        fd = os.open(path, _FLAGS, _MODE)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError(0, "it is a link or no regular file")
        if stat.S_IMODE(status.st_mode) & ~_MODE:
            os.fchmod(fd, stat.S_IMODE(status.st_mode) & _MODE)
        stack.pop_all()
    return fd


def _tail(fd: int) -> bytes:
    start = max(0, os.fstat(fd).st_size - 2 * _LINE_BYTES)
    return os.pread(fd, 2 * _LINE_BYTES, start)


def _newest(tail: bytes) -> float | None:
    lines = _LINE.findall(tail)
    if not lines:
        return None
    try:
        at = datetime.fromisoformat(lines[-1].decode("ascii") + "+00:00")
    except ValueError:  # the right shape, but the 99th of a month
        return None
    return at.timestamp()
