"""The per-minute audit: a line and its event, once a minute, whatever breaks."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TurnedClock
from memory_store import MemoryStore, MemoryTransaction
from small_disk import DISKS
from stores import make_sqlite

from otpseal import totp
from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.audit import Kind
from otpseal.errors import CodeLogUnwritable, SeedUnreadable, StoreUnavailable
from otpseal.ledger import AuditLog
from otpseal.minute import MARK, Logged, MinuteJob
from otpseal.ports import Clock, Store
from otpseal.secret import Secret
from otpseal.service import Service
from otpseal.storage_key import StorageKey

SEED = Secret(bytes(range(32)))
STORAGE_KEY = StorageKey(Secret(b"k" * 32))
LINES = re.compile(rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - 2FA Code: \d{6}\n)*")


class Brittle(MemoryStore):
    """A store that cannot commit while it is told so."""

    broken = False

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[MemoryTransaction]:
        """Open a transaction; fails at the commit."""
        with super().transaction() as tx:
            yield tx
            if self.broken:
                raise StoreUnavailable("no room")


def import_seed(store: Store, clock: Clock) -> None:
    """Give the account `default` its seed."""
    service = Service(store, keys=None, storage_key=STORAGE_KEY, clock=clock)  # type: ignore[arg-type]
    service.import_seed(SEED, source="sealed")


def make_job(store: Store, path: Path, clock: Clock) -> MinuteJob:
    """Return the job of the account `default`."""
    return MinuteJob(
        store,
        storage_key=STORAGE_KEY,
        code_log=FileCodeLog(path, max_bytes=10**6),
        clock=clock,
        account="default",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "last_code.txt"


@pytest.fixture
def store(clock: TurnedClock) -> Brittle:
    """A store that holds a seed."""
    made = Brittle()
    import_seed(made, clock)
    return made


@pytest.fixture
def job(store: Brittle, path: Path, clock: TurnedClock) -> MinuteJob:
    """The job on it."""
    return make_job(store, path, clock)


def events(store: Store, kind: Kind) -> list[dict[str, object]]:
    """Return the details of the events of a kind; each must be genuine."""
    audit = AuditLog(store, STORAGE_KEY, lambda: 0.0)
    records = audit.newest(10**6, kind=kind.value)
    assert all(record.genuine for record in records)
    return [json.loads(record.row.detail) for record in records]


# The line.


def test_a_run_writes_the_current_code(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """One line of CONTRACT's form with the minute's code, and one event."""
    clock.turn(5.5)

    assert job.run() is Logged.WRITTEN

    code = totp.generate(SEED, clock()).text
    assert f"2027-01-15 08:00:05 - 2FA Code: {code}\n" == path.read_text()
    assert events(store, Kind.CODE_LOGGED) == [{}]


def test_a_minute_has_one_line(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """However often it runs in a minute, the minute's line is written once."""
    results = []
    for _ in range(3):
        results += [job.run(), job.run()]
        clock.turn(59)
        results.append(job.run())
        clock.turn(1)

    assert results == [Logged.WRITTEN, *[Logged.ALREADY_WRITTEN] * 2] * 3
    assert len(path.read_bytes().splitlines()) == 3
    assert events(store, Kind.CODE_LOGGED) == [{}] * 3
    assert events(store, Kind.CODE_LOG_GAP) == []


def test_asking_does_not_spend(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """The logged code is accepted afterwards."""
    job.run()
    code = path.read_text()[-7:-1]

    service = Service(store, keys=None, storage_key=STORAGE_KEY, clock=clock)  # type: ignore[arg-type]
    assert service.verify(code).outcome.name == "ACCEPTED"


def test_without_a_seed_nothing_is_written(path: Path, clock: TurnedClock) -> None:
    """No seed: no line and no event; lines begin in the minute of its arrival."""
    store = MemoryStore()
    job = make_job(store, path, clock)

    assert job.run() is Logged.NO_SEED
    assert path.read_bytes() == b""

    clock.turn(600)
    import_seed(store, clock)
    assert job.run() is Logged.WRITTEN
    assert events(store, Kind.CODE_LOG_GAP) == []


def test_an_unreadable_seed_writes_nothing(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """A damaged row is an error that names the account; the log stays as it is."""
    job.run()
    before = path.read_bytes()
    row = store.committed.accounts["default"]
    for damaged in (
        replace(row, sealed_seed=b"\x01" + bytes(60)),
        replace(row, parameters=totp.Parameters(digits=8)),
        replace(row, parameters=totp.Parameters(period=0)),
    ):
        with store.transaction() as tx:
            tx.put_account(damaged)
        clock.turn(60)

        with pytest.raises(SeedUnreadable, match="'default'"):
            job.run()

        assert before == path.read_bytes()


# Two at once.

_RUN = """
import sys
from pathlib import Path
from test_minute import make_job
from stores import make_sqlite

job = make_job(make_sqlite(Path(sys.argv[1])), Path(sys.argv[2]), lambda: 1.8e9)
print("ready")
sys.stdin.readline()
print(job.run().name)
"""


def test_two_processes_write_one_line(
    tmp_path: Path, path: Path, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several runs at once, in processes of their own: one line, one event."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    store = make_sqlite(tmp_path)
    import_seed(store, clock)
    command = [sys.executable, "-u", "-c", _RUN, str(tmp_path), str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for run in runs:
        assert run.stdout.readline() == "ready\n"

    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    results = [run.communicate(timeout=20)[0].strip() for run in runs]

    assert sorted(results) == [*["ALREADY_WRITTEN"] * 2, "WRITTEN"]
    assert len(path.read_bytes().splitlines()) == 1
    assert events(store, Kind.CODE_LOGGED) == [{}]
    store.close()


def test_a_second_run_waits_for_the_first(
    store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """While one run is in its transaction, the next one has not begun to look."""
    inside, go_on = threading.Event(), threading.Event()
    results: list[Logged] = []

    def slow() -> float:
        inside.set()
        go_on.wait(20)
        return clock()

    jobs = make_job(store, path, slow), make_job(store, path, clock)
    runs = [
        threading.Thread(target=lambda job=job: results.append(job.run()))
        for job in jobs
    ]
    runs[0].start()
    assert inside.wait(20)
    runs[1].start()
    runs[1].join(0.2)
    waited = runs[1].is_alive()
    go_on.set()
    for run in runs:
        run.join(20)

    assert waited
    assert results == [Logged.WRITTEN, Logged.ALREADY_WRITTEN]
    assert len(path.read_bytes().splitlines()) == 1


# The line and its event stand or fall together.


def test_a_failed_commit_takes_the_line_back(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """No event, no line; and the same minute is written once the store is back."""
    job.run()
    before = path.read_bytes()
    clock.turn(60)
    store.broken = True

    with pytest.raises(StoreUnavailable):
        job.run()
    after = path.read_bytes()
    store.broken = False

    assert before == after
    assert job.run() is Logged.WRITTEN
    assert len(path.read_bytes().splitlines()) == 2
    assert events(store, Kind.CODE_LOG_GAP) == []


@pytest.mark.parametrize("minutes_later", [0, 1])
def test_a_run_killed_before_its_commit_is_made_good(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock, minutes_later: int
) -> None:
    """A line without its event gets it from the next run, and is no gap."""
    job.run()
    clock.turn(60)
    with FileCodeLog(path, max_bytes=10**6).locked() as file:
        file.append(clock(), "123456")  # and then the process is killed
    clock.turn(60 * minutes_later)

    job.run()

    lines = 2 + minutes_later
    assert len(path.read_bytes().splitlines()) == lines
    assert events(store, Kind.CODE_LOGGED) == [{}] * lines
    assert events(store, Kind.CODE_LOG_GAP) == []


def test_a_first_run_killed_is_made_good(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """The very first line, too, has one event in the end."""
    with FileCodeLog(path, max_bytes=10**6).locked() as file:
        file.append(clock(), "123456")

    assert job.run() is Logged.ALREADY_WRITTEN
    assert job.run() is Logged.ALREADY_WRITTEN

    assert events(store, Kind.CODE_LOGGED) == [{}]


# Gaps.


def test_missed_minutes_are_told_exactly(
    job: MinuteJob, store: Brittle, clock: TurnedClock
) -> None:
    """The first and the last minute without a line stand in one event."""
    job.run()
    clock.turn(5 * 60 + 30)

    job.run()
    clock.turn(60)
    job.run()
    clock.turn(120)
    job.run()

    assert events(store, Kind.CODE_LOG_GAP) == [
        {"from": "2027-01-15T08:01:00Z", "to": "2027-01-15T08:04:00Z"},
        {"from": "2027-01-15T08:07:00Z", "to": "2027-01-15T08:07:00Z"},
    ]


def test_the_first_run_is_no_gap(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """A new store beside an old log has missed nothing."""
    old = b"2026-12-31 23:59:00 - 2FA Code: 123456\n"
    path.write_bytes(old)

    assert job.run() is Logged.WRITTEN

    assert path.read_bytes().startswith(old)
    assert events(store, Kind.CODE_LOG_GAP) == []
    assert events(store, Kind.CODE_LOGGED) == [{}]


def test_a_deleted_log_hides_no_gap(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """Who deletes the log does not delete the knowledge of the missed minutes."""
    job.run()
    path.unlink()
    clock.turn(180)

    assert job.run() is Logged.WRITTEN

    assert len(path.read_bytes().splitlines()) == 1
    assert events(store, Kind.CODE_LOG_GAP) == [
        {"from": "2027-01-15T08:01:00Z", "to": "2027-01-15T08:02:00Z"}
    ]


def test_a_log_deleted_in_its_minute_has_the_next_line(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """A deleted or truncated log goes on with the next minute, and that is no gap."""
    for destroy in (Path.unlink, lambda path: os.truncate(path, 0)):
        job.run()
        destroy(path)

        assert job.run() is Logged.ALREADY_WRITTEN
        assert path.read_bytes() == b""
        clock.turn(60)
        assert job.run() is Logged.WRITTEN
        clock.turn(60)

    assert events(store, Kind.CODE_LOG_GAP) == []


@pytest.mark.parametrize("back_s", [60, 3600, 86_400 * 365])
def test_a_clock_set_back_silences_nothing(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock, back_s: int
) -> None:
    """Lines go on under the new time at once, and nothing is taken for a gap."""
    job.run()
    clock.turn(-back_s)

    results = []
    for _ in range(3):
        results += [job.run(), job.run()]
        clock.turn(60)

    assert [Logged.WRITTEN, Logged.ALREADY_WRITTEN] * 3 == results
    assert store.committed.marks[MARK] == (clock() - 60) // 60
    assert events(store, Kind.CODE_LOG_GAP) == []


def test_a_line_of_the_future_silences_nothing(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """A line that somebody dated ahead holds back neither lines nor gaps."""
    job.run()
    with path.open("ab") as file:
        file.write(b"2099-01-01 00:00:00 - 2FA Code: 123456\n")
    clock.turn(120)

    assert job.run() is Logged.WRITTEN
    assert len(events(store, Kind.CODE_LOG_GAP)) == 1


# Torn lines.


@pytest.mark.parametrize("torn", [b"2027-01-15 08:01:0", b"\0" * 5000])
def test_a_torn_line_is_repaired_and_told(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock, torn: bytes
) -> None:
    """What a crash tore is cut off before the next line; how much is an event."""
    job.run()
    with path.open("ab") as file:
        file.write(torn)
    clock.turn(60)

    assert job.run() is Logged.WRITTEN

    assert LINES.fullmatch(path.read_bytes())
    assert len(path.read_bytes().splitlines()) == 2
    assert events(store, Kind.CODE_LOG_REPAIRED) == [{"bytes": len(torn)}]


def test_a_repair_is_told_even_if_the_store_fails_first(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock
) -> None:
    """What could not be recorded is not cut off yet: the event is never lost."""
    job.run()
    with path.open("ab") as file:
        file.write(b"torn")
    before = path.read_bytes()
    clock.turn(60)
    store.broken = True

    with pytest.raises(StoreUnavailable):
        job.run()
    after = path.read_bytes()
    store.broken = False
    job.run()
    job.run()

    assert before == after
    assert LINES.fullmatch(path.read_bytes())
    assert events(store, Kind.CODE_LOG_REPAIRED) == [{"bytes": 4}]


# What stands in the way.


@pytest.mark.timeout(30)
@pytest.mark.parametrize("obstacle", ["directory", "symlink", "fifo", "full disk"])
def test_an_obstacle_is_an_error_and_then_a_gap(
    job: MinuteJob, store: Brittle, path: Path, clock: TurnedClock, obstacle: str
) -> None:
    """While the log cannot be written each run says so; then the gap is told."""
    job.run()
    put, remove = _obstacle(obstacle, path)
    put()

    for _ in range(3):
        clock.turn(60)
        with pytest.raises(CodeLogUnwritable, match="The next run tries again"):
            job.run()
    remove()
    clock.turn(60)

    assert job.run() is Logged.WRITTEN
    assert LINES.fullmatch(path.read_bytes())
    assert events(store, Kind.CODE_LOG_GAP) == [
        {"from": "2027-01-15T08:01:00Z", "to": "2027-01-15T08:03:00Z"}
    ]
    assert events(store, Kind.CODE_LOGGED) == [{}] * 2


def _obstacle(
    kind: str, path: Path
) -> tuple[Callable[[], object], Callable[[], object]]:
    if kind == "full disk":
        disk = DISKS["size limit"](path.parent)
        full = disk.__enter__()()
        return full.__enter__, lambda: full.__exit__(None, None, None)
    path.unlink()
    if kind == "directory":
        return path.mkdir, path.rmdir
    if kind == "symlink":
        return lambda: path.symlink_to(path.with_name("x")), path.unlink
    return lambda: os.mkfifo(path), path.unlink


def _as_nobody(work: Callable[[], str]) -> str:
    """Return what `work` says when it has no privileges; in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        return said.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("unwritable", ["file", "directory"])
def test_an_unwritable_log_is_explained_and_recovers(
    store: Brittle, clock: TurnedClock, unwritable: str
) -> None:
    """Without permission the run says so, as an error of ours; with it, it writes."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "last_code.txt"
        lock = directory / ".last_code.txt.lock"
        for file in (path, lock):
            file.touch()
            os.chown(file, 65534, 65534)
        directory.chmod(0o755)
        if unwritable == "file":
            os.chown(path, 0, 0)
            path.chmod(0o600)
        else:
            path.unlink()
            lock.unlink()
        job = make_job(store, path, clock)

        def work() -> str:
            try:
                return job.run().name
            except CodeLogUnwritable as error:
                return str(error)

        refused = _as_nobody(work)
        path.unlink(missing_ok=True)
        directory.chmod(0o777)
        written = _as_nobody(work)

        assert f"the code log {path} cannot be written: Permission denied" in refused
        assert written == "WRITTEN"
        assert LINES.fullmatch(path.read_bytes())


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_tears_no_line(
    store: Brittle, path: Path, clock: TurnedClock, disk: str
) -> None:
    """Minute by minute on a full disk: whole lines or an error, then recovery."""
    with DISKS[disk](path.parent) as full:
        job = make_job(store, path, clock)
        job.run()

        failures = 0
        with full():
            for _ in range(4096 // 39 + 3):  # the rest of a page, and then some
                clock.turn(60)
                try:
                    job.run()
                except CodeLogUnwritable:
                    failures += 1
                assert LINES.fullmatch(path.read_bytes())
        clock.turn(60)

        assert failures >= 2
        assert job.run() is Logged.WRITTEN
        assert LINES.fullmatch(path.read_bytes())
        lines = len(path.read_bytes().splitlines())
        assert events(store, Kind.CODE_LOGGED) == [{}] * lines
        assert len(events(store, Kind.CODE_LOG_GAP)) == 1
