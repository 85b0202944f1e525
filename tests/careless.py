"""The mistake that the tests of exactly-once must find: read, then write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from otpseal.ports import Store, Transaction

_WRITES = {
    "append_events",
    "count_strangers",
    "put_budgets",
    "put_tally",
    "raise_mark",
    "save_states",
    "set_mark",
    "spend_recovery_digest",
}


class ReadThenWrite:
    """A store whose transactions lock nothing between reading and writing.

    Args:
        store: a real one. Every read is a transaction of its own; all writes are
            another at the end.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[Transaction]:
        """Open what only looks like a transaction."""
        careless = _Careless(self._store)
        yield cast("Transaction", careless)
        with self._store.transaction(patience_s=patience_s, shared=shared) as tx:
            for name, arguments in careless.writes:
                getattr(tx, name)(*arguments)

    def close(self) -> None:
        """See `otpseal.ports.Store`."""
        self._store.close()


class _Careless:
    database_time = None

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._do, name)

    def _do(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401 - any method's
        if name in _WRITES:
            self.writes.append((name, arguments))
            return None
        with self._store.transaction(shared=True) as tx:
            return getattr(tx, name)(*arguments)
