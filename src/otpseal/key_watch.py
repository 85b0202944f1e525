"""Notices in each transaction that the storage key was replaced.

Replacing it takes an exclusive transaction, and raises a mark. Every other transaction
reads the mark first, under its own lock: a process with the old key can neither decide
nor write anything by it. One that serves takes the new key and goes on; a command,
which may hold what it sealed before, ends and is run again.
"""

import threading
from collections.abc import Callable
from typing import Final

from otpseal.errors import StoreMismatch
from otpseal.ports import Transaction
from otpseal.storage_key import StorageKey

#: Name of the store's mark that counts its storage keys; unset is 0.
STORAGE_KEY_MARK: Final = "storage-key"


class KeyWatch:
    """Called with each transaction when it begins.

    Args:
        storage_key: what this process uses; changed in place.
        generation: which of the store's storage keys that is.
        unwrap: opens a record of the store, or raises.
        goes_on: whether this process takes a new storage key, or ends.
    """

    def __init__(
        self,
        storage_key: StorageKey,
        generation: int,
        *,
        unwrap: Callable[[Transaction, bytes], StorageKey],
        goes_on: bool,
    ) -> None:
        self._storage_key = storage_key
        self._generation = generation
        self._unwrap = unwrap
        self._goes_on = goes_on
        self._lock = threading.Lock()

    def __call__(self, tx: Transaction) -> None:
        """Look at the mark.

        Raises:
            StoreMismatch: the storage key was replaced, and this process cannot go on.
        """
        generation = generation_of(tx)
        if generation == self._generation:
            return
        if not self._goes_on:
            raise StoreMismatch(
                "the storage key was replaced while this ran, and nothing was changed:"
                " run it again"
            )
        with self._lock:
            if generation == self._generation:
                return
            record = tx.storage_key_record()
            if record is None:
                raise StoreMismatch("the store has lost its key record")
            self._storage_key.become(self._unwrap(tx, record))
            self._generation = generation


def generation_of(tx: Transaction) -> int:
    """Return which of its storage keys a store has: 0, 1, 2 and so on."""
    return tx.mark(STORAGE_KEY_MARK) or 0
