"""The SQLite store as a file: how it is opened, locked, filled up and killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from small_disk import DISKS
from stores import make_sqlite
from test_store_contract import account, event

from otpseal import throttle, totp
from otpseal.access import Caller
from otpseal.account_state import State
from otpseal.adapters import sql_schema
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.errors import ConfigurationError, OtpsealError, StoreUnavailable
from otpseal.ports import Keys
from otpseal.secret import Secret
from otpseal.service import Service
from otpseal.storage_key import StorageKey

SEED = Secret(bytes(range(32)))
NO_LIMIT = throttle.Policy(threshold=10**9, disable_at=10**9)


def open_seeded(store: SqlStore, keys: Keys, clock: object = time.time) -> Service:
    """Return a service on `store` with a fixed storage key and unlimited attempts."""
    return Service(
        store,
        keys=keys,
        storage_key=StorageKey(Secret(b"k" * 32)),
        clock=clock,  # type: ignore[arg-type]
        policy=NO_LIMIT,
    )


def run_python(code: str, *args: object) -> subprocess.Popen[str]:
    """Start another process that runs `code` and whose output is read."""
    command = [sys.executable, "-u", "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# How it is opened.


def test_pragmas_are_in_effect(tmp_path: Path) -> None:
    """Every connection syncs fully, journals by truncation, and trusts no schema."""
    expected = {
        "journal_mode": "persist",
        "synchronous": 2,
        "busy_timeout": 5000,
        "foreign_keys": 1,
        "trusted_schema": 0,
    }
    store = make_sqlite(tmp_path)

    with store.transaction() as tx:
        found = {
            name: tx._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in expected
        }
        locked = tx._connection.connection.dbapi_connection.in_transaction

    assert expected == found
    assert locked
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "otpseal.db",
        "/var/lib/otpseal.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///x.db?check_same_thread=true",
        "sqlite+aiosqlite:///x.db",
        "nonsense://canary@host/db",
        "postgresql://user:canary@host:port/db",
        "postgresql://user:canary@host/",
        "postgresql+asyncpg://user:canary@host/db",
        "mysql://user:canary@host/db",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    """Another database is refused by the setting's name; passwords stay in."""
    with pytest.raises(ConfigurationError, match="OTPSEAL_DATABASE_URL") as caught:
        open_engine(url)

    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_directory_is_explained(tmp_path: Path) -> None:
    """A directory that is not there is an unavailable store, and says which."""
    with pytest.raises(StoreUnavailable, match=r"store\.lock cannot be opened"):
        make_sqlite(tmp_path / "missing")


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Database and lock file have mode 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        make_sqlite(tmp_path).close()
    finally:
        os.umask(before)

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert {"otpseal.db": 0o600, "store.lock": 0o600, "store.turn": 0o600} == {
        name: mode for name, mode in modes.items() if not name.endswith("-journal")
    }
    assert modes.get("otpseal.db-journal", 0o600) == 0o600


# The schema.


def test_migrations_build_the_declared_schema(tmp_path: Path) -> None:
    """The migrated database is what `sql_schema` declares, column for column."""
    make_sqlite(tmp_path).close()
    engine = open_engine(f"sqlite:///{tmp_path / 'otpseal.db'}")

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, sql_schema.metadata) == []
    engine.dispose()


@pytest.mark.parametrize(
    ("name", "make_column"),
    [
        ("accounts", lambda: sa.Column("planted", sa.Integer)),
        ("marks", lambda: sa.Column("value", sa.Text, nullable=False)),
        ("marks", lambda: sa.Column("value", sa.BigInteger, nullable=True)),
    ],
)
def test_a_forgotten_migration_is_noticed(
    tmp_path: Path, name: str, make_column: Callable[[], sa.Column[object]]
) -> None:
    """The comparison sees a column that is new, of another type, or nullable."""
    make_sqlite(tmp_path).close()
    engine = open_engine(f"sqlite:///{tmp_path / 'otpseal.db'}")
    changed = sa.MetaData()
    for table in sql_schema.metadata.tables.values():
        table.to_metadata(changed)
    changed.tables[name].append_column(make_column(), replace_existing=True)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, changed) != []
    engine.dispose()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A database of a later version is left alone, and the way out is named."""
    make_sqlite(tmp_path).close()
    with sqlite3.connect(tmp_path / "otpseal.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = (tmp_path / "otpseal.db").read_bytes()

    with pytest.raises(StoreUnavailable, match="newer otpseal"):
        make_sqlite(tmp_path)

    assert before == (tmp_path / "otpseal.db").read_bytes()


def test_a_count_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A kind that this version does not know is a clear error, no crash."""
    store = make_sqlite(tmp_path)
    with sqlite3.connect(tmp_path / "otpseal.db") as connection:
        connection.execute("INSERT INTO tallies VALUES ('attempt.new', 'a', 1, 1.0)")
    connection.close()

    with (
        pytest.raises(StoreUnavailable, match="newer otpseal"),
        store.transaction() as tx,
    ):
        tx.tallies()
    store.close()


# Errors.


def test_errors_carry_no_parameters(tmp_path: Path) -> None:
    """An error of the database names no value, in its text, its chain or its repr."""
    store = make_sqlite(tmp_path)
    row = account("canary-id", fingerprint=b"canary-print", sealed_seed=b"canary-seed")
    with store.transaction() as tx:
        tx.put_account(row)

    with (
        pytest.raises(StoreUnavailable, match="UNIQUE constraint failed") as caught,
        store.transaction() as tx,
    ):
        tx.put_account(account("canary-other", fingerprint=b"canary-print"))

    chain = []
    error: BaseException | None = caught.value
    while error is not None:
        chain += [str(error), repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    # The lines of this very file are in the traceback: look at what is not source.
    said = [text for text in chain if "tests/test_sql_engine" not in text]
    assert said
    assert "canary" not in "".join(said)
    store.close()


def test_an_unknown_error_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    """What is no error of the database is not taken for one."""
    store = make_sqlite(tmp_path)

    with pytest.raises(KeyError), store.transaction():
        raise KeyError
    store.close()


# Locks.

_SATURATE = """
import sys
from pathlib import Path
from stores import make_sqlite
store = make_sqlite(Path(sys.argv[1]))
print("ready")
number = 0
while True:
    with store.transaction() as tx:
        tx.set_mark("busy", number)
    number += 1
"""


@pytest.fixture
def _tests_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")


@pytest.mark.usefixtures("_tests_importable")
def test_a_saturating_process_starves_nobody(tmp_path: Path) -> None:
    """Beside a writer that never pauses, each transaction has its turn in time."""
    store = make_sqlite(tmp_path)
    with run_python(_SATURATE, tmp_path) as busy:
        try:
            assert busy.stdout is not None
            assert busy.stdout.readline() == "ready\n"

            waits = []
            for number in range(20):
                begin = time.monotonic()
                with store.transaction() as tx:
                    tx.set_mark("mine", number)
                waits.append(time.monotonic() - begin)
        finally:
            busy.kill()

    assert max(waits) < 5
    with store.transaction() as tx:
        assert tx.mark("mine") == 19
        assert (tx.mark("busy") or 0) > 0
    store.close()


_ADD = """
import sys
from pathlib import Path
from stores import make_sqlite
store = make_sqlite(Path(sys.argv[1]))
for _ in range(100):
    with store.transaction() as tx:
        tx.set_mark("sum", (tx.mark("sum") or 0) + 1)
"""


@pytest.mark.usefixtures("_tests_importable")
def test_processes_never_lose_a_write(tmp_path: Path) -> None:
    """Reading, changing and writing back is one step across processes, too."""
    adders = [run_python(_ADD, tmp_path) for _ in range(3)]
    for adder in adders:
        with adder:
            assert adder.wait(60) == 0

    store = make_sqlite(tmp_path)
    with store.transaction() as tx:
        assert tx.mark("sum") == 300
    store.close()


def test_a_forked_child_is_refused(tmp_path: Path) -> None:
    """After a fork the child gets an error, not its parent's lock and connection.

    Not even while a thread of the parent is in a transaction: it would wait for ever.
    """
    store = make_sqlite(tmp_path)
    with store.transaction() as tx:
        tx.set_mark("m", 1)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                with store.transaction():
                    os._exit(1)
            except StoreUnavailable:
                store.close()
                os._exit(0)
            except BaseException:  # noqa: BLE001 - pytest must not run twice
                os._exit(2)
        _, status = os.waitpid(child, 0)

    assert status == 0
    with store.transaction() as tx:
        assert tx.mark("m") == 1
    store.close()


def test_a_lost_lock_file_loses_no_write(tmp_path: Path) -> None:
    """If the lock file is deleted under two stores, SQLite's own lock still holds."""
    first, second = make_sqlite(tmp_path), make_sqlite(tmp_path)
    with first.transaction() as tx:
        tx.set_mark("m", 1)
    (tmp_path / "store.lock").unlink()

    def add() -> None:
        with second.transaction() as tx:
            tx.set_mark("m", (tx.mark("m") or 0) + 1)

    other = threading.Thread(target=add)
    with first.transaction() as tx:
        other.start()
        other.join(0.2)
        tx.set_mark("m", (tx.mark("m") or 0) + 1)
    other.join()

    with first.transaction() as tx:
        assert tx.mark("m") == 3
    first.close()
    second.close()


# Disks.


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_changes_nothing(
    tmp_path: Path, disk: str, service_keys: Keys
) -> None:
    """On a full disk nothing is decided or counted; with room again it goes on."""
    now = 1_800_000_000.0
    code = totp.generate(SEED, now).text
    with DISKS[disk](tmp_path) as full:
        store = make_sqlite(tmp_path)
        service = open_seeded(store, service_keys, lambda: now)
        service.import_seed(SEED, source="sealed")
        before = service.account()
        # The journal keeps its room, with which small changes go on succeeding.
        os.truncate(tmp_path / "otpseal.db-journal", 0)

        with full():
            for attempt in (code, "000000", code):
                with pytest.raises(StoreUnavailable, match="the store is unavailable"):
                    service.verify(attempt)
            # Reading needs no room.
            assert service.account() == before

        assert service.verify(code).outcome.name == "ACCEPTED"
        assert service.verify(code).outcome.name == "REPLAYED"
        assert service.verify("000000").state.budget.failures == 1
        store.close()


def succeeds(action: Callable[[], None]) -> bool:
    """Tell whether the store took it."""
    try:
        action()
    except StoreUnavailable:
        return False
    return True


def test_a_full_disk_loses_nothing_of_what_it_took(
    tmp_path: Path, service_keys: Keys
) -> None:
    """While there is room in the journal it goes on; all that was taken is there."""
    with DISKS["tmpfs"](tmp_path) as full:
        store = make_sqlite(tmp_path)
        service = open_seeded(store, service_keys, lambda: 1_800_000_000.0)
        service.import_seed(SEED, source="sealed")
        taken = 0

        with full():
            while taken < 100_000 and succeeds(service.accounts.disable):
                taken += 1

        assert 0 < taken < 100_000
        with store.transaction() as tx:
            rows = tx.newest_events(100_000, kind="account.disabled")
        assert taken == len(rows)
        store.close()


def test_a_full_disk_is_no_store(tmp_path: Path) -> None:
    """A store cannot be made on a full disk; with room again it can."""
    with DISKS["tmpfs"](tmp_path) as full:
        with full(), pytest.raises(StoreUnavailable):
            make_sqlite(tmp_path)

        make_sqlite(tmp_path).close()


@pytest.mark.parametrize("damage", ["garbage", "head", "middle", "truncated"])
def test_a_damaged_file_decides_nothing(
    tmp_path: Path, damage: str, service_keys: Keys
) -> None:
    """From a database that is damaged comes an error, never a decision."""
    now = 1_800_000_000.0
    store = make_sqlite(tmp_path)
    open_seeded(store, service_keys, lambda: now).import_seed(SEED, source="sealed")
    store.close()
    path = tmp_path / "otpseal.db"
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content = bytearray(b"no database" * 1000)
    elif damage == "head":
        content[:100] = b"\xff" * 100
    elif damage == "middle":
        content[100:] = b"\xff" * (len(content) - 100)
    else:
        del content[5000:]
    path.write_bytes(content)

    def verify() -> None:
        damaged = make_sqlite(tmp_path)
        try:
            code = totp.generate(SEED, now).text
            open_seeded(damaged, service_keys, lambda: now).verify(code)
        finally:
            damaged.close()

    with pytest.raises(StoreUnavailable):
        verify()


def test_a_store_that_cannot_be_reached_can_be_again(tmp_path: Path) -> None:
    """A database that was moved away and put back is used again, unchanged."""
    store = make_sqlite(tmp_path)
    with store.transaction() as tx:
        tx.append_events([event(1)])
        tx.put_account(account("a", state=State(last_step=5)))
    store.close()
    (tmp_path / "otpseal.db").rename(tmp_path / "away")
    (tmp_path / "otpseal.db").mkdir()

    with pytest.raises(OtpsealError):
        make_sqlite(tmp_path)
    (tmp_path / "otpseal.db").rmdir()
    (tmp_path / "away").rename(tmp_path / "otpseal.db")

    with make_sqlite(tmp_path).transaction() as tx:
        assert tx.accounts(["a"])["a"].state.last_step == 5


def test_a_prefix_without_its_slash_opens_nothing(tmp_path: Path) -> None:
    """A caller's row whose prefix lost its slash is damaged, not a wider fence."""
    digest = b"d" * 32
    store = make_sqlite(tmp_path)
    shop = Caller("c", "c", digest, frozenset(), "shop/", 1.0)
    with store.transaction() as tx:
        tx.add_caller(shop)
    with store.transaction() as tx:
        assert {digest: shop} == tx.callers([digest])
        tx.connection.exec_driver_sql("UPDATE callers SET prefix = 'shop'")

    with pytest.raises(StoreUnavailable), store.transaction() as tx:
        tx.callers([digest])
    store.close()
