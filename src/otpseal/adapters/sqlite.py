"""SQLite: one file, one lock, one connection a process.

It runs with a rollback journal and full synchronisation, not WAL: up to 3.51.2 a WAL
database that several processes open can be corrupted (the WAL-reset bug). Every
transaction is a writer and takes a file lock first: SQLite's own busy waiting
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

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from otpseal.adapters.sql_engine import (
    OPENING_PATIENCE_S,
    opened_before_fork,
    translated,
    upgrade_schema,
)
from otpseal.errors import ConfigurationError, StoreUnavailable

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


def open_sqlite(url: URL) -> Engine:
    """Return an engine for an SQLite file.

    Raises:
        ConfigurationError: not a file, or a URL with options.
    """
    database = url.database or ":memory:"
    if (
        url.drivername not in _DRIVERS
        or url.query
        # Neither is a file that several processes and connections can share.
        or database.startswith((":memory:", "file:"))
    ):
        raise ConfigurationError(
            "OTPSEAL_DATABASE_URL must name an SQLite file, such as"
            " sqlite:////var/lib/otpseal/otpseal.db"
        )
    engine = create_engine(
        url,
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
            raise opened_before_fork()
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


class SqliteGate:
    """`otpseal.adapters.sql_engine.Gate` to a file.

    Args:
        engine: from `open_sqlite`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = Path(str(engine.url.database))
        self._lock = WriteLock(self._path.with_name("store.lock"))
        # One is enough: the lock lets one transaction at a time into the database.
        self._connection: Connection | None = None

    @property
    def directory(self) -> Path:
        """Where the database writes."""
        return self._path.parent

    def migrate(self) -> str | None:
        """See `Gate`."""
        with translated(), self._lock.held(OPENING_PATIENCE_S):
            _make_private_file(self._path)
            with self._engine.begin() as connection:
                return upgrade_schema(connection)

    @contextmanager
    def opened(
        self, *, patience_s: float, shared: bool
    ) -> Iterator[tuple[Connection, None]]:
        """See `Gate`; here every transaction is exclusive."""
        del shared
        with self._lock.held(patience_s):
            if self._connection is None:
                self._expect_database()
                self._connection = self._engine.connect()
            try:
                with self._connection.begin():
                    yield self._connection, None
            except SQLAlchemyError:
                # Whatever state it is in now, the next transaction starts afresh.
                self._connection.invalidate()
                self._connection = None
                raise

    def _expect_database(self) -> None:
        # SQLite would make a new, empty one.
        if not self._path.exists():
            raise StoreUnavailable(f"the database {self._path} is gone: put it back")

    def close(self) -> None:
        """See `Gate`."""
        # Closing connections that came over a fork could undo the parent's work.
        if self._connection is not None and self._lock.is_ours:
            self._connection.close()
        self._engine.dispose(close=self._lock.is_ours)
        self._lock.close()


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
