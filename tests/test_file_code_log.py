"""The code log as a file: whole lines only, whatever happens to it."""

import contextlib
import os
import resource
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_disk import DISKS

from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.errors import CodeLogUnwritable

NOW = 1_800_000_000.0
LINE = b"2027-01-15 08:00:00 - 2FA Code: 012345\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "last_code.txt"


@pytest.fixture
def log(path: Path) -> FileCodeLog:
    """The log; it rotates at 1024 bytes: 26 lines."""
    return FileCodeLog(path, max_bytes=1024)


def append(log: FileCodeLog, now: float = NOW) -> None:
    """Append a line."""
    with log.locked() as file:
        file.append(now, "012345")


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def open_files() -> int:
    """Return how many files this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


# The line.


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
def test_a_line_is_exactly_this(log: FileCodeLog, path: Path) -> None:
    """CONTRACT's line, in UTC wherever the machine stands, and nothing else."""
    append(log, NOW)
    append(log, NOW + 61.9)

    assert path.read_bytes() == LINE + b"2027-01-15 08:01:01 - 2FA Code: 012345\n"
    assert log.newest_line_at() == NOW + 61


@settings(max_examples=50, deadline=None)
@given(now=st.floats(0, 253_402_300_799))
def test_a_line_is_read_back_as_its_second(
    tmp_path_factory: pytest.TempPathFactory, now: float
) -> None:
    """The newest line gives the second, and the minute, it was written in."""
    path = tmp_path_factory.mktemp("log") / "last_code.txt"
    log = FileCodeLog(path, max_bytes=10**6)

    with log.locked() as file:
        file.append(now, "000000")
        minute = file.newest_minute()

    assert int(now) // 60 == minute
    assert float(int(now)) == log.newest_line_at()
    assert path.read_text() == (
        datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%d %H:%M:%S")
        + " - 2FA Code: 000000\n"
    )


def test_an_empty_or_missing_log_has_no_line(log: FileCodeLog, path: Path) -> None:
    """Before the first line there is no newest one, and asking makes no file."""
    assert log.newest_line_at() is None
    assert not path.exists()

    with log.locked() as file:
        assert file.newest_minute() is None
        assert file.torn_bytes() == 0
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"2027-01-15 08:00:00 - 2FA Code: 01234\n",
        b"2027-01-99 08:00:00 - 2FA Code: 012345\n",
        LINE.replace(b"012345", "\uff11\uff12\uff13\uff14\uff15\uff16".encode()),
        b"\0" * 500,
    ],
)
def test_what_is_no_line_is_not_the_newest(
    log: FileCodeLog, path: Path, content: bytes
) -> None:
    """Nonsense in the file is neither a time nor an error."""
    path.write_bytes(content)

    assert log.newest_line_at() is None
    with log.locked() as file:
        assert file.newest_minute() is None


# Torn lines.


@pytest.mark.parametrize("whole", [b"", LINE, LINE * 200])
@pytest.mark.parametrize(
    "torn", [b"2", LINE[:-1], b"\0" * 4096, b"x" * 4095, b"x" * 10_000]
)
def test_a_torn_line_is_cut_off(
    log: FileCodeLog, path: Path, whole: bytes, torn: bytes
) -> None:
    """However long what is torn, exactly that is measured and cut off."""
    path.write_bytes(whole + torn)

    with log.locked() as file:
        assert len(torn) == file.torn_bytes()
        file.repair()
        assert file.torn_bytes() == 0

    assert whole == path.read_bytes()


def test_undo_takes_one_line_back(log: FileCodeLog, path: Path) -> None:
    """The last line appended is taken back, once; without one nothing is."""
    append(log)

    with log.locked() as file:
        file.undo()
        assert path.read_bytes() == LINE
        file.append(NOW + 60, "999999")
        file.undo()
        file.undo()

    assert path.read_bytes() == LINE


# What may stand in its place.


def test_a_deleted_log_is_made_anew(log: FileCodeLog, path: Path) -> None:
    """If somebody removes the file, the next line makes a new one."""
    append(log)
    path.unlink()

    append(log)

    assert path.read_bytes() == LINE


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("obstacle", "why"),
    [
        ("directory", "Is a directory"),
        ("symlink", "Too many levels of symbolic links"),
        ("dangling", "Too many levels of symbolic links"),
        ("fifo", "it is a link or no regular file"),
    ],
)
def test_what_is_no_file_is_refused_until_it_is_gone(
    log: FileCodeLog, path: Path, obstacle: str, why: str
) -> None:
    """A directory, link or FIFO is an error that names the log; then it recovers.

    Nothing waits for the FIFO's other end, and no link is followed.
    """
    target = path.with_name("target")
    if obstacle == "directory":
        path.mkdir()
    elif obstacle == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    if obstacle == "symlink":
        target.write_bytes(LINE)
    before = open_files()

    with pytest.raises(CodeLogUnwritable, match=f"{path} cannot be written: {why}"):
        append(log)
    assert log.newest_line_at() is None

    assert target.exists() is (obstacle == "symlink")
    assert obstacle != "symlink" or target.read_bytes() == LINE
    assert open_files() == before
    path.rmdir() if obstacle == "directory" else path.unlink()
    append(log)
    assert path.read_bytes() == LINE


def test_a_missing_directory_is_explained(tmp_path: Path) -> None:
    """Without its directory the log cannot be made; the error names it."""
    log = FileCodeLog(tmp_path / "missing" / "last_code.txt", max_bytes=1024)

    with pytest.raises(CodeLogUnwritable, match=r"missing/last_code\.txt cannot"):
        append(log)


# Modes.


@pytest.mark.parametrize(
    ("before", "after"), [(None, 0o640), (0o666, 0o640), (0o600, 0o600), (0o777, 0o640)]
)
def test_the_log_is_0640_or_stricter(
    log: FileCodeLog, path: Path, before: int | None, after: int
) -> None:
    """With no umask, and after a careless chmod, others cannot read the codes."""
    if before is not None:
        path.touch()
        path.chmod(before)

    umask = os.umask(0)
    try:
        append(log)
    finally:
        os.umask(umask)

    assert after == mode_of(path)
    assert mode_of(path.with_name(".last_code.txt.lock")) == 0o600


# Rotation.


def test_the_log_rotates_by_size(log: FileCodeLog, path: Path) -> None:
    """No file grows beyond its bound, and the newest 26 lines at least are kept."""
    rotated = path.with_name("last_code.txt.1")
    umask = os.umask(0)
    try:
        for minute in range(60):
            append(log, NOW + 60 * minute)

            assert path.stat().st_size <= 1024
    finally:
        os.umask(umask)

    lines = (rotated.read_bytes() + path.read_bytes()).splitlines()
    expected = [
        datetime.fromtimestamp(NOW + 60 * minute, UTC)
        .strftime("%Y-%m-%d %H:%M:%S - 2FA Code: 012345")
        .encode()
        for minute in range(26, 60)
    ]
    assert expected == lines
    assert (mode_of(path), mode_of(rotated)) == (0o640, 0o640)


def test_the_newest_line_may_be_in_the_rotated_file(
    log: FileCodeLog, path: Path
) -> None:
    """Right after a rotation, or a deletion, the rotated file still tells."""
    append(log)
    path.rename(path.with_name("last_code.txt.1"))

    assert log.newest_line_at() == NOW
    path.touch()
    assert log.newest_line_at() == NOW


def test_a_rotation_that_cannot_be_loses_nothing(log: FileCodeLog, path: Path) -> None:
    """If the old file cannot be moved away, the log stays as it is."""
    path.write_bytes(LINE * 26)
    path.with_name("last_code.txt.1").mkdir()
    before = open_files()

    with pytest.raises(CodeLogUnwritable):
        append(log)

    assert path.read_bytes() == LINE * 26
    assert open_files() == before


def test_a_rotation_that_breaks_closes_what_is_its_own(
    log: FileCodeLog, path: Path
) -> None:
    """If the new file cannot be opened, no descriptor leaks and none is closed twice.

    A number closed twice may by then belong to another thread's file.
    """
    path.write_bytes(LINE * 26)
    before = open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def fail_to_rotate() -> None:
        with log.locked() as file:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + 50, hard))
            taken = []
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            try:
                file.append(NOW, "012345")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for number in taken:
                    os.close(number)

    with pytest.raises(CodeLogUnwritable, match="Too many open files"):
        fail_to_rotate()

    assert open_files() == before
    append(log)
    assert path.read_bytes() == LINE
    assert path.with_name("last_code.txt.1").read_bytes() == LINE * 26


# Locks and disks.


def test_one_at_a_time(log: FileCodeLog) -> None:
    """Who comes second waits until the first has let go."""
    entered = threading.Event()

    def second() -> None:
        with log.locked():
            entered.set()

    other = threading.Thread(target=second)
    with log.locked():
        other.start()
        assert not entered.wait(0.2)

    assert entered.wait(20)
    other.join()


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_tears_nothing(log: FileCodeLog, path: Path, disk: str) -> None:
    """On a full disk there is an error and no part of a line; then it goes on."""
    whole = FileCodeLog(path, max_bytes=10**6)
    with DISKS[disk](path.parent) as full:
        append(whole)

        with full():
            with contextlib.suppress(CodeLogUnwritable):
                for _ in range(4096 // len(LINE) + 1):  # the rest of a page
                    append(whole)
            with pytest.raises(CodeLogUnwritable, match="on a disk with room"):
                append(whole)
            before = path.read_bytes()
        append(whole)

        assert before == LINE * (len(before) // len(LINE))
        assert path.read_bytes() == before + LINE
