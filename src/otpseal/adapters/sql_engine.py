"""Engines: how a database is opened, locked and brought up to the schema.

SQLite runs with a rollback journal and full synchronisation, not WAL: up to 3.51.2 a
WAL database that several processes open can be corrupted (the WAL-reset bug). Every
SQLite transaction is a writer and takes a file lock first: SQLite's own busy waiting
starves a second process beside a saturated one (ADR 3).
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from otpseal.errors import ConfigurationError, StoreUnavailable

#: The Alembic revision that this version of the program reads and writes.
SCHEMA_REVISION: Final = "0002"

#: How long the store's lock is waited for, in seconds. Shorter than callers wait for
#: an answer: who is told that the store is unavailable must not be accepted later.
PATIENCE_S: Final = 4.0

#: As long as that at the start, when another process may be making the first key.
OPENING_PATIENCE_S: Final = 300.0

_RETRY_S: Final = 0.001
_DRIVERS: Final = ("sqlite", "sqlite+pysqlite")
_PRAGMAS: Final = (
    # A journal that keeps its blocks costs less to sync than one that grows each time,
    # and its room is there when the disk is full.
    "PRAGMA journal_mode = PERSIST",
    "PRAGMA journal_size_limit = 1048576",
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
)


def open_engine(url: str) -> Engine:
    """Return an engine for `url`.

    Raises:
        ConfigurationError: not a URL, or not a database that is supported.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "OTPSEAL_DATABASE_URL is not a database URL such as"
            " sqlite:////var/lib/otpseal/otpseal.db"
        ) from None
    database = parsed.database or ":memory:"
    if (
        parsed.drivername not in _DRIVERS
        or parsed.query
        # Neither is a file that several processes and connections can share.
        or database.startswith((":memory:", "file:"))
    ):
        raise ConfigurationError(
            "OTPSEAL_DATABASE_URL must name an SQLite file, such as"
            " sqlite:////var/lib/otpseal/otpseal.db"
        )
    engine = create_engine(
        parsed,
        poolclass=QueuePool,
        connect_args={"check_same_thread": False, "isolation_level": None},
        hide_parameters=True,  # seeds and codes must not stand in an error's text
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class WriteLock:
    """An exclusive lock between all threads and processes that use one database.

    Two files: who waits for `path` holds the turn meanwhile, so that whoever just let
    the lock go, and wants it again at once, comes after him.

    Args:
        path: the lock file; the turn is `store.turn` beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._fds: tuple[int, int] | None = None
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process made it, not one that it was forked from."""
        return os.getpid() == self._pid

    @contextmanager
    def held(self, patience_s: float) -> Iterator[None]:
        """Hold the lock; waits for it at most `patience_s` seconds.

        Raises:
            StoreUnavailable: others held it for that long, the lock file cannot be
                opened or locked, or this process was forked after it was.
        """
        if not self.is_ours:
            # A forked child shares the parent's lock (flock belongs to the open
            # file) and must not touch its database connections.
            raise StoreUnavailable(
                "this store was opened before a fork: open it in each process"
            )
        due = time.monotonic() + patience_s
        if not self._threads.acquire(timeout=patience_s):
            raise self._busy(patience_s)
        try:
            turn, lock = self._open()
            self._wait_for(turn, due, patience_s)
            try:
                self._wait_for(lock, due, patience_s)
            finally:
                fcntl.flock(turn, fcntl.LOCK_UN)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def _wait_for(self, fd: int, due: float, patience_s: float) -> None:
        while not self._lock(fd):
            if time.monotonic() >= due:
                raise self._busy(patience_s)
            time.sleep(_RETRY_S)

    def _lock(self, fd: int) -> bool:
        # Not the blocking call: a stopped process that holds the lock must not hold
        # everybody else's requests, and their end, for as long as it likes.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreUnavailable(
                f"the lock file {self._path} cannot be locked: {error.strerror}"
            ) from None
        return True

    def _busy(self, patience_s: float) -> StoreUnavailable:
        return StoreUnavailable(
            f"another process has held {self._path} for {patience_s:g} s: is one of"
            " otpseal's processes stopped?"
        )

    def _open(self) -> tuple[int, int]:
        # Opened once and kept: an open per transaction costs more than the lock.
        if self._fds is None:
            lock = self._open_file(self._path)
            try:
                turn = self._open_file(self._path.with_name("store.turn"))
            except StoreUnavailable:
                os.close(lock)
                raise
            self._fds = (turn, lock)
        return self._fds

    @staticmethod
    def _open_file(path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"the lock file {path} cannot be opened: {error.strerror}. Check the"
                " directory's owner and mode"
            ) from None

    def close(self) -> None:
        """Close the lock files."""
        if not self.is_ours:
            return  # a thread of the parent may have held it: it would never open
        with self._threads:
            for fd in self._fds or ():
                os.close(fd)
            self._fds = None


def write_lock(engine: Engine) -> WriteLock:
    """Return the lock that goes with an engine's database file."""
    database = Path(str(engine.url.database))
    return WriteLock(database.with_name("store.lock"))


def expect_database(engine: Engine) -> None:
    """Check that the database file is there: SQLite would make a new, empty one.

    Raises:
        StoreUnavailable: it is gone.
    """
    path = Path(str(engine.url.database))
    if not path.exists():
        raise StoreUnavailable(f"the database {path} is gone: put it back")


def migrate(engine: Engine, lock: WriteLock) -> None:
    """Bring the database up to `SCHEMA_REVISION`; nothing to do is cheap.

    Raises:
        StoreUnavailable: it cannot be read or written, or was made by a newer
            version of the program.
    """
    with translated(), lock.held(OPENING_PATIENCE_S):
        _make_private_file(Path(str(engine.url.database)))
        with engine.begin() as connection:
            _upgrade_from(_revision(connection), connection)


def _make_private_file(path: Path) -> None:
    # SQLite itself would make it readable by everyone, as the umask has it.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailable(
            f"the database {path} cannot be made: {error.strerror}"
        ) from None


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    return found.scalar_one_or_none()


def _upgrade_from(current: str | None, connection: Connection) -> None:
    if current == SCHEMA_REVISION:
        return
    if current is not None and current > SCHEMA_REVISION:
        raise StoreUnavailable(
            f"the database has schema {current}, this program knows"
            f" {SCHEMA_REVISION}: it was written by a newer otpseal; upgrade the"
            " program, or restore a backup"
        )
    # Alembic costs 10 MB and 0.2 s: loaded only when there is something to do.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).with_name("migrations"))
    )
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA_REVISION)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into `StoreUnavailable`, without their parameters.

    Raises:
        StoreUnavailable: instead of any error of SQLAlchemy or the driver.
    """
    try:
        yield
    except DBAPIError as error:
        # The driver's text names no values, but for the content of a damaged column.
        reason = str(error.orig).partition(" with text ")[0]
        raise StoreUnavailable(f"the store is unavailable: {reason}") from None
    except SQLAlchemyError as error:
        raise StoreUnavailable(
            f"the store is unavailable: {type(error).__name__}"
        ) from None
