"""What may stand in a v1 request: fields of a body, parameters of a query.

Each is taken once by name and type; what is left over was not meant for us, and is
refused rather than ignored. Texts of refusals are static.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from otpseal import base64url
from otpseal.http.v1_problems import malformed

_MAX_PARAMETERS: Final = 16
#: Up to there each integer has a float of its own.
_EXACT: Final = 2**53
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
# RFC 3339 section 5.6, seconds and time zone not optional.
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)


def two_texts(body: dict[str, Any], first: str, second: str) -> tuple[str, str]:
    """Return two fields that are all that the body has; for the hot path.

    Raises:
        Refused: 422.
    """
    one, two = body.get(first), body.get(second)
    if len(body) == 2 and isinstance(one, str) and isinstance(two, str):  # noqa: PLR2004
        return one, two
    raise malformed(f"The body must hold two strings, {first} and {second}")


class Fields:
    """The fields of a body.

    Args:
        content: from `wire.read_json_object`.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._left = dict(content)

    def __contains__(self, name: str) -> bool:
        """Tell whether the body has a field that was not taken yet."""
        return name in self._left

    def text(self, name: str, default: str | None = None) -> str:
        """Take a string; without a default it must be there.

        Raises:
            Refused: 422.
        """
        value = self._left.pop(name, default)
        if not isinstance(value, str):
            raise malformed(f"{name} must be a string")
        return value

    def number(self, name: str, default: int) -> int:
        """Take an integer.

        Raises:
            Refused: 422.
        """
        value = self._left.pop(name, default)
        if isinstance(value, float) and abs(value) <= _EXACT and value.is_integer():
            return int(value)  # to JSON, and to its schemas, 6.0 is the number 6
        if type(value) is not int:  # True is one, to isinstance
            raise malformed(f"{name} must be an integer")
        return value

    def pair(self, name: str) -> tuple[str, str]:
        """Take a list of two strings.

        Raises:
            Refused: 422.
        """
        value = self._left.pop(name, None)
        match value:
            case [str(first), str(second)]:
                return first, second
        raise malformed(f"{name} must be a list of two strings")

    def end(self) -> None:
        """Tell by returning that nothing is left.

        Raises:
            Refused: 422.
        """
        if self._left:
            raise malformed("The body has a field that this call does not know")


class Query:
    """The parameters of a query string, each at most once.

    Raises:
        Refused: 422.
    """

    def __init__(self, raw: bytes) -> None:
        if not raw:
            self._left: dict[str, str] = {}
            return
        try:
            pairs = parse_qsl(
                raw.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MAX_PARAMETERS,
            )
        except ValueError:  # UnicodeDecodeError is one
            raise malformed("The query string cannot be read") from None
        self._left = dict(pairs)
        if len(self._left) != len(pairs):
            raise malformed("A query parameter stands twice")

    def text(self, name: str) -> str | None:
        """Take a parameter as it is."""
        return self._left.pop(name, None)

    def number(self, name: str, default: int, *, most: int) -> int:
        """Take a number, 1 to `most`.

        Raises:
            Refused: 422.
        """
        value = self._left.pop(name, None)
        if value is None:
            return default
        if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= most:
            raise malformed(f"{name} must be 1 to {most}")
        return int(value)

    def time_ms(self, name: str) -> int | None:
        """Take a time of RFC 3339, in Unix milliseconds.

        Raises:
            Refused: 422.
        """
        value = self._left.pop(name, None)
        if value is None:
            return None
        refusal = malformed(f"{name} must be a time of RFC 3339")
        if not _TIME.fullmatch(value):
            raise refusal
        try:
            at = datetime.fromisoformat(value.upper())
            return round(at.astimezone(UTC).timestamp() * 1000)
        except (ValueError, OverflowError):
            raise refusal from None

    def cursor(self) -> str | None:
        """Take `cursor` and open it.

        Raises:
            Refused: 422, for what `closed_cursor` did not make.
        """
        value = self._left.pop("cursor", None)
        if value is None:
            return None
        opened = _opened_cursor(value)
        if opened is None:
            raise bad_cursor()
        return opened

    def end(self) -> None:
        """Tell by returning that nothing is left.

        Raises:
            Refused: 422.
        """
        if self._left:
            raise malformed("There is a query parameter that this call does not know")


def bad_cursor() -> Exception:
    """Return what to raise for a cursor that is none of ours."""
    return malformed("cursor must be a next_cursor of this call")


def closed_cursor(place: str) -> str:
    """Return the cursor of a place in a list: opaque, fit for a URL."""
    return base64url.encode(place.encode("ascii"))


def _opened_cursor(value: str) -> str | None:
    if not _CURSOR.fullmatch(value):
        return None
    try:
        return base64url.decode(value).decode("ascii")
    except ValueError:
        return None
