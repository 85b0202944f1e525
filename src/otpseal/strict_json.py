"""JSON that every reader understands alike (RFC 8259, RFC 7493).

Of two members of one name another reader may believe the other one; NaN is no JSON;
and whatever is nested too deep is refused as any other text is.
"""

import json
from typing import Any, Final

#: Largest integer that every reader has exactly (RFC 8259 section 6).
MAX_EXACT: Final = 2**53 - 1


def parse(raw: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what a text stands for; bytes are UTF-8 and nothing else.

    Raises:
        ValueError: it is none, or not understood by all alike.
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        return _DECODER.decode(text)
    except (ValueError, RecursionError):  # 5,000 brackets are enough
        pass
    # Outside the handler: the foreign errors hold the whole text, seeds and all, and
    # would stay reachable as the context of ours.
    raise ValueError("no JSON that all readers understand alike")


def parse_object(raw: str | bytes) -> dict[str, Any]:
    """Return the members of an object.

    Raises:
        ValueError: as `parse`, or it is something else.
    """
    found = parse(raw)
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - one error for every cause
    return found


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("a member is there twice")
    return parsed


_DECODER: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
)
