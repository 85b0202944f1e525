"""The part of `otpseal.ports.Transaction` that is about keys in the store."""

from dataclasses import dataclass, replace
from typing import Protocol

from otpseal.key_records import ImportKeyRow


@dataclass(frozen=True, slots=True)
class ServiceKeyRow:
    """A private key of the service's own, as it rests.

    Attributes:
        kid: RFC 7638 thumbprint of the public half.
        use: what it is for, see `otpseal.service_keys`.
        sealed: the private half under the storage key, bound to `use` and `kid`.
        made_at: Unix seconds.
    """

    kid: str
    use: str
    sealed: bytes
    made_at: float

    def resealed(self, sealed: bytes) -> "ServiceKeyRow":
        """Return the row with the private half under another storage key."""
        return replace(self, sealed=sealed)


class KeyTransaction(Protocol):
    """Keys that rest in the store, and those of which it has the public half."""

    def replace_storage_key_record(self, record: bytes) -> None:
        """Put another record in the place of the one that is there."""

    def import_keys(self) -> list[ImportKeyRow]:
        """Return every import key, the newest last; whether genuine or not."""

    def put_import_key(self, row: ImportKeyRow) -> None:
        """Insert an import key, or replace the row of that kid."""

    def service_keys(self, use: str | None = None) -> list[ServiceKeyRow]:
        """Return the keys for a use, or all, the newest last."""

    def add_service_key(self, row: ServiceKeyRow) -> None:
        """Insert a key; there must be none of that kid."""

    def replace_service_key(self, row: ServiceKeyRow) -> None:
        """Put a row in the place of the one of that kid."""
