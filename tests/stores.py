"""Every implementation of `otpseal.ports.Store`, and a fixture that gives one each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory_store import MemoryStore

from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.ports import Store


def make_sqlite(directory: Path) -> SqlStore:
    """Make a store on an SQLite file."""
    return SqlStore(open_engine(f"sqlite:///{directory / 'otpseal.db'}"))


#: Every implementation that needs no more than a directory.
STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _directory: MemoryStore(),
    "sqlite": make_sqlite,
}


@pytest.fixture(params=[*STORES, "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """One empty store after another; their time is the test's."""
    if request.param in STORES:
        made = STORES[request.param](tmp_path)
    else:
        database = request.getfixturevalue("database")
        made = database.open_store(reads_clock=False)
    yield made
    made.close()
