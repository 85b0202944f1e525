"""The part of `otpseal.ports.Transaction` that is about keys that rest in the store."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ServiceKeyRow:
    """A private key of the service's own, as it rests.

    Attributes:
        kid: RFC 7638 thumbprint of the public half.
        use: what it is for: `sig` for receipts.
        state: `active`, or what became of it.
        public: the public half, a JWK in JSON.
        sealed: the private half under the storage key, bound to `use` and `kid`.
        made_at: Unix seconds.
        until: when it ends, in Unix seconds, or None.
    """

    kid: str
    use: str
    state: str
    public: str
    sealed: bytes
    made_at: float
    until: float | None = None


class KeyTransaction(Protocol):
    """Keys that rest in the store."""

    def service_keys(self, use: str) -> list[ServiceKeyRow]:
        """Return the keys for a use, the newest last."""

    def add_service_key(self, row: ServiceKeyRow) -> None:
        """Insert a key; there must be none of that kid."""
