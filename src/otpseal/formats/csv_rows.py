"""CSV with a header (RFC 4180): the format to write by hand or by a script.

Columns, in any order: `id` and `secret` (base32), which have to be there; `type`,
`issuer`, `label`, `algorithm`, `digits`, `period`, `counter`, `window`, where an absent
column or an empty field means the default. Other columns are refused: a misspelt
`perod` would otherwise give codes that never match.
"""

import csv
import io
from collections.abc import Iterator
from typing import Final

from otpseal.errors import FileRefused
from otpseal.formats.content import text_of
from otpseal.formats.row import Entry, Fault, RowError, make_entry, parse_number

#: The columns, in the order in which they are documented.
COLUMNS: Final = (
    "id",
    "type",
    "issuer",
    "label",
    "secret",
    "algorithm",
    "digits",
    "period",
    "counter",
    "window",
)
REQUIRED: Final = frozenset({"id", "secret"})


def parse(content: bytes) -> list[Entry | Fault]:
    """Return an entry or a fault for every row below the header.

    A row's line is the one on which it begins; blank lines are skipped.

    Raises:
        FileRefused: the header is not one; quotes are broken, so that no row after
            them can be told from the next; larger than 64 MiB; not UTF-8.
    """
    rows = _rows(text_of(content))
    _, header = next(rows, (1, []))
    if not _is_header(header):
        raise FileRefused(
            "the first line has to name the columns, separated by commas: id and"
            " secret, and of type, issuer, label, algorithm, digits, period, counter"
            " and window those that are used, each once"
        )
    return [_row(line, header, row) for line, row in rows]


def has_header(line: str) -> bool:
    """Tell whether a text's first line is a header of ours."""
    try:
        return _is_header(next(csv.reader([line], strict=True), []))
    except csv.Error:
        return False


def _is_header(names: list[str]) -> bool:
    """Tell whether `names` are columns, each once, with the required ones."""
    found = set(names)
    return len(found) == len(names) and REQUIRED <= found <= set(COLUMNS)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Give every row that holds something, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            break
        if row is None:
            return
        if row:
            yield line, row
        line = reader.line_num + 1
    raise FileRefused("the file is not CSV as in RFC 4180: look for an open quote")


def _row(line: int, header: list[str], row: list[str]) -> Entry | Fault:
    if len(row) != len(header):
        return Fault(line, "the row has more or fewer fields than the header")
    try:
        return _entry(line, {name: v for name, v in zip(header, row, strict=True) if v})
    except RowError as refused:
        return Fault(line, refused.reason)


def _entry(line: int, given: dict[str, str]) -> Entry:
    if not given.keys() >= REQUIRED:
        raise RowError("id or secret is empty")
    numbers = {
        name: parse_number(given[name]) if name in given else None
        for name in ("digits", "period", "counter", "window")
    }
    return make_entry(
        line,
        secret=given["secret"],
        kind=given.get("type", "totp"),
        account=given["id"],
        issuer=given.get("issuer", ""),
        label=given.get("label", ""),
        algorithm=given.get("algorithm"),
        **numbers,
    )
