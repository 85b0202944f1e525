"""The store on PostgreSQL: how it is reached, locked, timed, lost and found again."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_fixture import PASSWORD, Cluster, Database
from server_fixture import OTHER_SEED, RsaKeys, code_at, otpseal, sealed_to, serving
from test_store_contract import account, event

from otpseal.account_state import State
from otpseal.adapters import sql_schema
from otpseal.adapters.sql_engine import (
    OPENING_PATIENCE_S,
    SCHEMA_REVISION,
    open_engine,
    open_gate,
)
from otpseal.adapters.sql_store import SqlStore
from otpseal.config import Settings
from otpseal.errors import ConfigurationError, StoreUnavailable
from otpseal.secret import Secret

CANARY = "canary-pass/word"
QUOTED = "canary-pass%2Fword"
_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"


@pytest.fixture
def store(database: Database) -> Iterator[SqlStore]:
    """A store on a fresh database."""
    made = database.open_store()
    yield made
    made.close()


def said_by(error: BaseException) -> str:
    """Return all that an error shows, its chain and tracebacks included."""
    texts = []
    link: BaseException | None = error
    while link is not None:
        lines = traceback.format_exception(link)
        # The lines of this very file are in the traceback.
        texts += [str(link), repr(link)]
        texts += [line for line in lines if "tests/test_postgres" not in line]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until a condition holds; fails if it does not."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(database: Database) -> bool:
    """Tell whether somebody waits for the store's lock."""
    ((count,),) = database.ask(_WAITING)
    return bool(count)


@contextmanager
def beside(action: Callable[[], None]) -> Iterator[threading.Thread]:
    """Run something in a thread, which has ended after the block."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
        assert not thread.is_alive()


def kill_sessions(database: Database) -> None:
    """End all sessions of stores on a database, as an administrator can."""
    database.ask(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'otpseal'"
    )


# How it is reached.


@pytest.mark.parametrize(
    "url",
    [
        "postgres://user:canary@host/db",
        "postgresql+psycopg2://user:canary@host/db",
        "postgresql+asyncpg://user:canary@host/db",
        "postgresql+psycopg://user:canary@host",
        "postgresql+psycopg://user:canary@host/",
        "postgresql+psycopg://user:canary@host:port/db",
        "postgresql+psycopg://user@host/db?password=canary",
        "postgresql+psycopg://user@host/db?options=-csynchronous_commit%3Doff",
        "postgresql+psycopg://user@host/db?sslpassword=canary",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    """Other drivers and unknown options are refused; it is said what is accepted."""
    with pytest.raises(ConfigurationError, match="OTPSEAL_DATABASE_URL") as caught:
        open_engine(url)

    assert "postgresql+psycopg://" in str(caught.value)
    assert "canary" not in said_by(caught.value)


def test_a_bare_scheme_means_psycopg(database: Database) -> None:
    """`postgresql://` is the same database by the same driver."""
    store = SqlStore(open_engine(database.url(scheme="postgresql")))

    with store.transaction() as tx:
        assert tx.account_ids() == []
    store.close()


def test_the_password_may_come_from_elsewhere(database: Database) -> None:
    """A URL without a password takes the one that is handed over; its own is first."""
    for url, password in (
        (database.url(password=None), PASSWORD),
        (database.url(), "wrong"),
    ):
        store = SqlStore(open_engine(url, password=Secret(password.encode())))
        store.close()


@pytest.mark.parametrize("where", ["url", "file"])
def test_a_password_is_never_shown(
    database: Database, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong password is in no error, representation or log, however deep."""
    caplog.set_level(logging.DEBUG)
    in_url = where == "url"
    engine = open_engine(
        database.url(password=QUOTED if in_url else None),
        password=None if in_url else Secret(CANARY.encode()),
    )

    with pytest.raises(StoreUnavailable, match="password authentication failed") as no:
        SqlStore(engine)

    shown = [said_by(no.value), repr(engine), str(engine.url), repr(engine.pool)]
    assert engine.url.password is None
    settings = Settings(database_url=database.url(password=QUOTED))
    shown += [repr(settings), str(settings), caplog.text, str(vars(engine))]
    assert not [text for text in shown if "canary" in text]


def test_a_password_must_be_text(database: Database) -> None:
    """Bytes that are no UTF-8 are refused by the name of the setting."""
    with pytest.raises(ConfigurationError, match="PASSWORD_FILE"):
        open_engine(database.url(password=None), password=Secret(b"\xff\xfe"))


def test_sessions_are_durable_and_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the database and the environment say, a commit waits for the disk."""
    for setting in (
        "synchronous_commit = off",
        "statement_timeout = 0",
        "default_transaction_isolation = 'serializable'",
    ):
        database.ask(f"ALTER DATABASE {database.name} SET {setting}")
    monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=off")
    monkeypatch.setenv("PGAPPNAME", "another")
    expected = {
        "synchronous_commit": "on",
        "statement_timeout": "10s",
        "idle_in_transaction_session_timeout": "10s",
        "transaction_isolation": "read committed",
        "application_name": "otpseal",
        "client_encoding": "UTF8",
        "lock_timeout": "4s",
    }
    store = database.open_store()

    def settings(patience_s: float) -> dict[str, str]:
        with store.transaction(patience_s=patience_s) as tx:
            return {
                name: tx._connection.scalar(sa.text(f"SHOW {name}"))
                for name in expected
            }

    found = settings(4)
    unhurried = settings(OPENING_PATIENCE_S)
    again = settings(4)

    assert {**expected, "lock_timeout": found["lock_timeout"]} == found
    assert 3000 < int(found["lock_timeout"].removesuffix("ms").replace("4s", "4000"))
    assert unhurried["statement_timeout"] == "301s"
    assert unhurried["idle_in_transaction_session_timeout"] == "301s"
    assert {**expected, "lock_timeout": again["lock_timeout"]} == again
    store.close()


def test_more_time_for_statements_can_be_had(database: Database) -> None:
    """Whoever reads whole tables opens a store with another limit."""
    store = database.open_store(statement_timeout_s=3600.0)

    with store.transaction() as tx:
        assert tx._connection.scalar(sa.text("SHOW statement_timeout")) == "1h"
    store.close()


# The schema.


def test_migrations_build_the_declared_schema(database: Database) -> None:
    """The migrated database is what `sql_schema` declares, column for column."""
    engine = open_engine(database.url())

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, sql_schema.metadata) == []
    engine.dispose()


_OPEN = """
import sys
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
print("ready")
sys.stdin.readline()
SqlStore(open_engine(sys.argv[1])).close()
"""


def test_eight_processes_make_one_schema(postgres: Cluster) -> None:
    """All who start at once on an empty database find one whole schema."""
    with postgres.database(empty=True) as database:
        openers = [
            subprocess.Popen(
                [sys.executable, "-u", "-c", _OPEN, database.url()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        for opener in openers:
            assert opener.stdout is not None
            assert opener.stdout.readline() == "ready\n"

        for opener in openers:
            assert opener.stdin is not None
            opener.stdin.write("\n")
            opener.stdin.flush()
        said = [opener.communicate(timeout=60) for opener in openers]

        assert [("", "")] * 8 == said
        assert [0] * 8 == [opener.returncode for opener in openers]
        found = database.ask("SELECT version_num FROM alembic_version")
        assert [(SCHEMA_REVISION,)] == found


def test_a_newer_schema_is_refused(database: Database) -> None:
    """A database of a later version is left alone, and the way out is named."""
    database.ask("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreUnavailable, match="newer otpseal"):
        database.open_store()

    assert [("9999",)] == database.ask("SELECT version_num FROM alembic_version")


def test_a_failed_migration_leaves_nothing(postgres: Cluster) -> None:
    """A table that stands in the way takes all the others back; none is half made."""
    with postgres.database(empty=True) as database:
        database.ask("CREATE TABLE issued_seeds (planted integer)")

        with pytest.raises(StoreUnavailable, match="already exists"):
            database.open_store()

        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert [("issued_seeds",)] == database.ask(tables)


# Errors.


def test_errors_carry_no_parameters(store: SqlStore) -> None:
    """Neither the values of a statement nor the DETAIL of the server is in an error."""
    with store.transaction() as tx:
        tx.put_account(account("canary-id", fingerprint=b"canary-print"))

    with (
        pytest.raises(StoreUnavailable, match="duplicate key value") as twice,
        store.transaction() as tx,
    ):
        tx.put_account(account("canary-other", fingerprint=b"canary-print"))
    with pytest.raises(StoreUnavailable), store.transaction() as tx:  # noqa: PT012
        with pytest.raises(sa.exc.IntegrityError) as raw:
            tx.put_account(account("canary-other", fingerprint=b"canary-print"))
        assert "canary" not in str(raw.value)
    with (
        pytest.raises(StoreUnavailable, match="InvalidTextRepresentation") as malformed,
        store.transaction() as tx,
    ):
        tx._connection.execute(
            sa.text("SELECT CAST(:text AS integer)"), {"text": "canary-text"}
        )

    # The key of the DETAIL line would be in hexadecimal.
    shown = said_by(twice.value) + said_by(malformed.value)
    assert "canary" not in shown
    assert b"canary".hex() not in shown


def test_an_unknown_error_of_the_caller_is_left_alone(store: SqlStore) -> None:
    """What is no error of the database is not taken for one, and nothing is stored."""
    with pytest.raises(KeyError), store.transaction() as tx:  # noqa: PT012
        tx.set_mark("m", 1)
        raise KeyError

    with store.transaction() as tx:
        assert tx.mark("m") is None


# Commits.


def test_a_failed_commit_is_no_success(database: Database, store: SqlStore) -> None:
    """What the database refuses at COMMIT is an error, and nothing of it is stored."""
    database.ask(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'canary'; END $$"
    )
    database.ask(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON marks DEFERRABLE"
        " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )

    with pytest.raises(StoreUnavailable) as caught, store.transaction() as tx:  # noqa: PT012
        tx.append_events([event(1)])
        tx.set_mark("m", 1)

    assert "canary" not in str(caught.value)
    with store.transaction() as tx:
        assert tx.mark("m") is None
        assert tx.newest_events(9) == []


def test_a_swallowed_error_commits_nothing(store: SqlStore) -> None:
    """PostgreSQL answers COMMIT after an error with a quiet ROLLBACK: not so here."""
    with (  # noqa: PT012
        pytest.raises(StoreUnavailable, match="a statement of this transaction failed"),
        store.transaction() as tx,
    ):
        tx.set_mark("m", 1)
        with suppress(sa.exc.DataError):
            tx._connection.exec_driver_sql("SELECT 1 / 0")

    with store.transaction() as tx:
        assert tx.mark("m") is None


def test_a_commit_that_no_standby_has_is_no_success(
    durable_postgres: Cluster,
) -> None:
    """When the wait for a synchronous standby is broken off, nobody is told "done"."""
    cluster = durable_postgres
    with cluster.database() as database:
        store = database.open_store()
        cluster.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        cluster.ask("SELECT pg_reload_conf()")
        errors: list[str] = []

        def write() -> None:
            with store.transaction() as tx:
                tx.set_mark("m", 1)

        def try_to_write() -> None:
            # Until the server has read its settings again, commits still succeed.
            while not errors:
                try:
                    write()
                except StoreUnavailable as error:
                    errors.append(str(error))

        try:
            with beside(try_to_write):
                cancel = (
                    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                    " WHERE wait_event = 'SyncRep' AND datname = current_database()"
                )
                until(lambda: database.ask(cancel) != [(0,)])
        finally:
            cluster.ask("ALTER SYSTEM RESET synchronous_standby_names")
            cluster.ask("SELECT pg_reload_conf()")

        assert len(errors) == 1
        assert "does not vouch for the commit" in errors[0]
        write()
        store.close()


# Lost and found.


def test_a_kept_connection_that_died_is_replaced(
    database: Database, store: SqlStore
) -> None:
    """Connections that were ended while nobody used them cost no transaction."""
    with store.transaction(shared=True) as tx:
        tx.set_mark("m", 1)
        with store.transaction(shared=True):
            pass  # a second one is kept, too
    kill_sessions(database)

    for number in (2, 3):
        with store.transaction() as tx:
            tx.set_mark("m", number)

    with store.transaction() as tx:
        assert tx.mark("m") == 3


def test_a_connection_lost_in_between_stores_nothing(
    database: Database, store: SqlStore
) -> None:
    """A session that is ended in its transaction is an error; the next one works."""
    with pytest.raises(StoreUnavailable), store.transaction() as tx:  # noqa: PT012
        tx.set_mark("m", 1)
        kill_sessions(database)
        tx.set_mark("m", 2)
    with pytest.raises(StoreUnavailable), store.transaction() as tx:  # noqa: PT012
        tx.set_mark("m", 1)
        kill_sessions(database)  # and then only the commit fails

    with store.transaction() as tx:
        assert tx.mark("m") is None
        tx.set_mark("m", 3)


def test_a_server_that_comes_back_is_used_at_once(
    durable_postgres: Cluster,
) -> None:
    """With the server gone all fails; what was told is there when it is back."""
    with durable_postgres.database() as database:
        store = database.open_store()
        for number in range(3):
            with store.transaction() as tx:
                tx.set_mark("m", number)
            durable_postgres.stop(immediate=True)
            try:
                for _ in range(2):
                    with pytest.raises(StoreUnavailable), store.transaction():
                        pass
            finally:
                durable_postgres.start()

            with store.transaction() as tx:
                assert tx.mark("m") == number
        store.close()


# Locks.


def test_patience_ends(store: SqlStore) -> None:
    """Who waits longer than he likes gets an error; the other goes on undisturbed."""
    with store.transaction() as tx:
        tx.set_mark("m", 1)
        for shared in (False, True):
            begin = time.monotonic()
            with (
                pytest.raises(StoreUnavailable, match="lock timeout"),
                store.transaction(patience_s=0.3, shared=shared),
            ):
                pass
            assert time.monotonic() - begin >= 0.25

    with store.transaction() as tx:
        assert tx.mark("m") == 1


def test_patience_is_for_rows_too(store: SqlStore) -> None:
    """A row that another shared transaction holds is not waited for without end."""
    with store.transaction() as tx:
        tx.put_account(account("a"))

    with store.transaction(shared=True) as tx:
        tx.accounts(["a"])
        with (
            pytest.raises(StoreUnavailable, match="lock timeout"),
            store.transaction(patience_s=0.3, shared=True) as other,
        ):
            other.accounts(["a"])


def test_shared_ones_run_beside_one_another(store: SqlStore) -> None:
    """Four shared transactions are all open at the same time."""
    everybody = threading.Barrier(4)
    met = []

    def meet() -> None:
        with store.transaction(shared=True):
            everybody.wait(30)
            met.append(True)

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert met == [True] * 4


@pytest.mark.parametrize("first", [True, False])
def test_an_exclusive_one_runs_alone(
    database: Database, store: SqlStore, *, first: bool
) -> None:
    """Shared and exclusive wait for one another, whoever comes first."""
    replica = database.open_store()
    order: list[str] = []

    def come_second() -> None:
        with replica.transaction(shared=not first):
            order.append("second")

    with store.transaction(shared=first):
        thread = threading.Thread(target=come_second)
        thread.start()
        until(lambda: waiting(database))
        order.append("first")
    thread.join(60)

    assert ["first", "second"] == order
    replica.close()


def test_shared_ones_never_lose_a_write(database: Database) -> None:
    """Under row locks, reading, changing and writing back is one step."""
    stores = [database.open_store() for _ in range(2)]
    with stores[0].transaction() as tx:
        tx.put_account(account("a"))

    def spend_steps(store: SqlStore) -> None:
        for _ in range(25):
            with store.transaction(shared=True) as tx:
                step = tx.accounts(["a"])["a"].state.last_step
                tx.save_states([("a", State(last_step=step + 1))])

    threads = [
        threading.Thread(target=spend_steps, args=[store]) for store in stores * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    with stores[0].transaction() as tx:
        assert tx.accounts(["a"])["a"].state.last_step == -1 + 4 * 25
    for store in stores:
        store.close()


def test_connections_are_bounded(store: SqlStore) -> None:
    """A ninth transaction of a process waits for a connection, not without end."""
    full, over = threading.Barrier(9), threading.Event()

    def stay() -> None:
        with store.transaction(shared=True):
            full.wait(30)
            over.wait(30)

    threads = [threading.Thread(target=stay) for _ in range(8)]
    for thread in threads:
        thread.start()
    full.wait(30)
    with (
        pytest.raises(StoreUnavailable, match="8 connections"),
        store.transaction(patience_s=0.2, shared=True),
    ):
        pass
    over.set()
    for thread in threads:
        thread.join(60)

    with store.transaction(shared=True) as tx:
        assert tx.mark("m") is None


def test_a_stopped_holder_is_thrown_out(database: Database) -> None:
    """Who holds the store and does nothing loses it, and is not told "done"."""
    stopped = database.open_store(statement_timeout_s=1.0)
    store = database.open_store()
    entered: list[bool] = []

    def enter() -> None:
        with store.transaction(patience_s=60) as tx:
            entered.append(tx.mark("m") is None)

    with pytest.raises(StoreUnavailable), stopped.transaction(patience_s=0.1) as tx:  # noqa: PT012
        tx.set_mark("m", 1)
        with beside(enter):
            pass  # it enters while the first one is still in its block

    assert entered == [True]
    stopped.close()
    store.close()


def test_a_forked_child_is_refused(database: Database, store: SqlStore) -> None:
    """After a fork the child gets an error, and its end leaves the parent's alone."""
    sessions = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'otpseal'"
        " AND datname = current_database() ORDER BY pid"
    )
    with store.transaction(shared=True), store.transaction(shared=True):
        pass  # so that two connections are kept
    before = database.ask(sessions)
    with store.transaction() as tx:
        tx.set_mark("m", 1)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                with store.transaction():
                    os._exit(1)
            except StoreUnavailable as error:
                store.close()
                os._exit(0 if "fork" in str(error) else 3)
            except BaseException:  # noqa: BLE001 - pytest must not run twice
                os._exit(2)
        _, status = os.waitpid(child, 0)

    assert status == 0
    with store.transaction() as tx:
        assert tx.mark("m") == 1
    assert len(before) == 2
    assert before == database.ask(sessions)


# The database's clock.


def server_time(database: Database) -> float:
    """Return the database's clock."""
    ((now,),) = database.ask(
        "SELECT extract(epoch FROM clock_timestamp())::double precision"
    )
    assert isinstance(now, float)
    return now


@pytest.mark.parametrize("shared", [False, True])
def test_the_clock_is_read_under_the_lock(
    database: Database, store: SqlStore, *, shared: bool
) -> None:
    """Who waited for the lock has the time at which he got it, not began to wait."""
    times: list[float | None] = []

    def enter() -> None:
        with store.transaction(shared=shared) as tx:
            times.append(tx.database_time)

    with store.transaction():
        thread = threading.Thread(target=enter)
        thread.start()
        until(lambda: waiting(database))
        time.sleep(0.05)
        before = server_time(database)
    thread.join(60)

    (found,) = times
    assert found is not None
    assert before <= found <= server_time(database)


def test_who_wants_no_clock_gets_none(database: Database) -> None:
    """Without `reads_clock` a transaction has no time of the database."""
    store = database.open_store(reads_clock=False)

    with store.transaction() as tx:
        assert tx.database_time is None
    store.close()


# The program.


def test_the_schema_by_the_command_line(postgres: Cluster, tmp_path: Path) -> None:
    """`db upgrade` makes the schema once; `db current` shows it, and the password not.

    The password is the first line of a file.
    """
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with postgres.database(empty=True) as database:
        settings = {
            "database_url": database.url(password=None),
            "database_password_file": tmp_path / "password",
            "data_dir": tmp_path / "data",
        }
        steps = [
            ("current", {"current": None, "needed": SCHEMA_REVISION}),
            ("upgrade", {"before": None, "after": SCHEMA_REVISION}),
            ("upgrade", {"before": SCHEMA_REVISION, "after": SCHEMA_REVISION}),
            ("current", {"current": SCHEMA_REVISION, "needed": SCHEMA_REVISION}),
        ]
        for command, expected in steps:
            done = otpseal("db", command, "--json", **settings)
            assert (0, "") == (done.returncode, done.stderr)
            assert expected == json.loads(done.stdout)
        told = otpseal("db", "upgrade", **settings)
        assert f"schema now:    {SCHEMA_REVISION}\n" in told.stdout
        (tmp_path / "password").write_text(CANARY)
        refused = otpseal("db", "current", **settings)

    assert refused.returncode == 4
    assert "password authentication failed" in refused.stderr
    assert "canary" not in refused.stdout + refused.stderr


def test_the_service_runs_on_it(
    database: Database, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """Served from PostgreSQL, a code is accepted once, also after a restart."""
    seed = sealed_to(service_keys, OTHER_SEED)
    url = database.url()

    with serving(tmp_path, service_keys, database_url=url) as server:
        assert server.bring(seed).status == 200
        code = code_at(time.time(), OTHER_SEED)
        first = server.verify(code)
        health = server.get("/health")
        logs = server.log()
    with serving(tmp_path, service_keys, database_url=url) as server:
        again = server.verify(code)
        logs += server.log()

    assert {"valid": True} == first.json
    assert {"status": "ok"} == health.json
    assert {"valid": False} == again.json
    assert PASSWORD not in logs
    assert not (tmp_path / "data" / "otpseal.db").exists()


def test_the_gate_says_where_it_writes(database: Database, tmp_path: Path) -> None:
    """A file's gate names its directory; a server's has none to be looked at."""
    file_gate = open_gate(open_engine(f"sqlite:///{tmp_path / 'otpseal.db'}"))
    server_gate = open_gate(open_engine(database.url()))

    assert tmp_path == file_gate.directory
    assert server_gate.directory is None
