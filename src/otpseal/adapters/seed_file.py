"""The plaintext seed.txt of an existing deployment: read once, then destroyed.

Read, overwritten and removed through one open file, so that nothing that is put in
its place meanwhile is taken for it. Links, FIFOs and other people's files are left
alone: to follow one would destroy what it points at.
"""

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 4096
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SeedFile:
    """An open seed.txt. Use `open_seed_file`."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def read(self) -> bytes:
        """Return its text without white space around it."""
        return os.pread(self._fd, _MAX_BYTES, 0).strip()

    def is_destroyed(self) -> bool:
        """Tell whether it was overwritten, but not removed, before a crash."""
        content = os.pread(self._fd, _MAX_BYTES, 0)
        return bool(content) and not content.strip(b"\0")

    def destroy(self) -> None:
        """Overwrite and remove it.

        Journals and flash translation may keep copies; this is what a program can do.
        """
        os.pwrite(self._fd, b"\0" * os.fstat(self._fd).st_size, 0)
        os.fsync(self._fd)
        self._path.unlink()

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def open_seed_file(path: Path) -> SeedFile | None:
    """Open it for this process alone; None if there is none.

    Raises:
        OSError: it is not a regular file of this user's own, or cannot be opened.
    """
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    try:
        # Of two processes that start at once, the second finds it removed.
        fcntl.flock(fd, fcntl.LOCK_EX)
        status = os.fstat(fd)
        if status.st_nlink == 0:
            os.close(fd)
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OSError(0, "it is a link or no regular file")
        if status.st_uid != os.geteuid():
            raise OSError(0, "it belongs to another user")
    except OSError:
        os.close(fd)
        raise
    return SeedFile(path, fd)
