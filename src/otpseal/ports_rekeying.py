"""The part of `otpseal.ports.Transaction` by which a storage key is replaced.

For exclusive transactions only: everything that rests is gone through.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

Row = TypeVar("Row")


class RekeyTransaction(Protocol[Row]):
    """Writes what was encrypted or authenticated anew; `Row` is an event's."""

    def reseal_accounts(self, seeds: Sequence[tuple[str, bytes]]) -> None:
        """Replace the sealed seeds of accounts, given by id; at least one."""

    def events_after(self, after: int, limit: int) -> list[Row]:
        """Return events with ids greater than `after`, oldest first."""

    def replace_event_macs(self, macs: Sequence[tuple[int, bytes]]) -> None:
        """Replace the MACs of events, given by id; at least one."""

    def void_recovery_codes(self) -> int:
        """Delete the unused recovery codes of all accounts; returns how many."""
