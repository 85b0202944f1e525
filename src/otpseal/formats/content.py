"""From bytes to text or JSON: what every file has to be before it has a format."""

from typing import Final

from otpseal import strict_json
from otpseal.errors import FileRefused
from otpseal.formats.row import RowError

#: Largest file that is looked at, in bytes.
MAX_BYTES: Final = 64 * 1024 * 1024

_BOM: Final = b"\xef\xbb\xbf"

Json = dict[str, object]


def text_of(content: bytes) -> str:
    """Return the text of UTF-8 `content`, without a byte order mark.

    Raises:
        FileRefused: more than `MAX_BYTES`, or not UTF-8.
    """
    if len(content) > MAX_BYTES:
        raise FileRefused("the file is larger than 64 MiB: split it")
    try:
        return content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError:
        pass
    # Outside the handler: the foreign error holds the whole file, seeds and all, and
    # would stay reachable as the context of ours. So below.
    raise FileRefused("the file is not UTF-8 text: save it as UTF-8")


def json_object_of(content: bytes) -> Json:
    """Return the JSON object that `content` is.

    Stricter than `json`: a key given twice, NaN and infinities are refused.

    Raises:
        FileRefused: no JSON of this kind, nested too deep, or see `text_of`.
    """
    text = text_of(content)
    try:
        return strict_json.parse_object(text)
    except ValueError:  # numbers of more than 4,300 digits too
        pass
    raise FileRefused(
        "the file is not a JSON object, repeats a key, or is nested too deep"
    )


def text_in(place: Json, key: str) -> str | None:
    """Return the text under `key`; None if there is none, or null.

    Raises:
        RowError: something else is there.
    """
    value = place.get(key)
    if value is None or isinstance(value, str):
        return value
    raise RowError("a field that holds text holds something else")


def number_in(place: Json, key: str) -> int | None:
    """Return the whole number under `key`; None if there is none, or null.

    Raises:
        RowError: something else is there, `6.0`, `"6"` and `true` included.
    """
    value = place.get(key)
    # bool is an int to Python, and `true` digits would be one.
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise RowError("a field that holds a whole number holds something else")
