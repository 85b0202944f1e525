"""Secret bytes that never print and compare in constant time."""

import hmac
from typing import Never, SupportsIndex


class Secret:
    """Immutable secret bytes.

    They leave only through `reveal`, so that every place where a secret comes
    out can be found by that word. `repr`, `str`, `format` and f-strings show the
    length alone; pickling and hashing are refused.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes themselves."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would leak by timing

    def __repr__(self) -> str:
        return f"Secret({len(self._value)} bytes)"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        raise TypeError("a Secret is not to be pickled or copied")
