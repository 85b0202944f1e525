"""Disks that really are full: a small tmpfs, or a limit on the size of files."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

#: Room on the small disk, in bytes.
ROOM = 1 << 20

#: Gives a directory, and a context in which its disk is full.
Full = Callable[[], AbstractContextManager[None]]


@contextmanager
def tmpfs(directory: Path) -> Iterator[Full]:
    """Mount a small tmpfs on `directory`; give what fills it to the last byte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(directory)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this container may not mount")

    @contextmanager
    def full() -> Iterator[None]:
        filler = directory / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        try:
            yield
        finally:
            filler.unlink()

    try:
        yield full
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def size_limit(directory: Path) -> Iterator[Full]:
    """Give what lets no file of this process grow; Python ignores SIGXFSZ."""

    @contextmanager
    def full() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # A few bytes more than the file has: a write is torn, not merely refused.
        sizes = [path.stat().st_size for path in directory.glob("*.txt")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes, default=0) + 10, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield full


DISKS = {"tmpfs": tmpfs, "size limit": size_limit}
