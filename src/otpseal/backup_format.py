"""A backup's bytes: lines of JSON, the last of which authenticates all before it.

In this order (docs/backup.md)::

    header   {"otpseal-backup":1,"schema":...,"kid":...,"record":...,"taken_at":...}
    rows     {"table":...,"row":{column: value, ...}}, one line each
    counts   {"rows":{table: number, ...}}
    trailer  {"mac":"64 hex digits"}, HMAC-SHA-256 over every byte before this line

A value is a JSON string, integer, real or null; bytes are `{"b":base64}`, and a real
that JSON has no number for is `{"f":"-inf"}`. Nothing follows the trailer.

Leaves out: where the key comes from, and what the rows mean. A reader gives rows
before it has seen the trailer: who acts on them must be able to take that back.
"""

import base64
import binascii
import hmac
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from otpseal.errors import BackupRefused

VERSION: Final = 1

#: Longest line that is looked at, in bytes; the longest row has a few kilobytes.
MAX_LINE: Final = 1 << 16

#: A row as it rests: column -> str, int, float, bytes or None.
Row = Mapping[str, object]

_TRAILER: Final = b'{"mac":'
_COUNTS: Final = b'{"rows":'
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class Mac(Protocol):
    """What `otpseal.storage_key.StorageKey.backup_mac` gives."""

    def update(self, message: bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Return the MAC over all of them."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says of itself.

    Attributes:
        schema: the revision of the tables that its rows are of.
        kid: the id of the only private key that opens it.
        record: the storage-key record.
        taken_at: everything that was acknowledged before is in it; Unix seconds.
    """

    schema: str
    kid: str
    record: bytes
    taken_at: float


class Writer:
    """Writes a backup's lines to `stream`, in order: header, rows, end."""

    def __init__(self, stream: BinaryIO, mac: Mac) -> None:
        self._stream = stream
        self._mac = mac
        self._counts: Counter[str] = Counter()

    def header(self, header: Header) -> None:
        """Write the first line."""
        self._line(
            {
                "otpseal-backup": VERSION,
                "schema": header.schema,
                "kid": header.kid,
                "record": _base64(header.record),
                "taken_at": header.taken_at,
            }
        )

    def row(self, table: str, row: Row) -> None:
        """Write one row."""
        self._counts[table] += 1
        packed = {column: _packed(value) for column, value in row.items()}
        self._line({"table": table, "row": packed})

    def end(self) -> None:
        """Write the last two lines, without which the others are worth nothing."""
        self._line({"rows": dict(self._counts)})
        self._stream.write(_trailer(self._mac))

    def _line(self, content: object) -> None:
        line = _ENCODER.encode(content).encode("ascii") + b"\n"
        self._mac.update(line)
        self._stream.write(line)


def read_header(stream: BinaryIO) -> Header:
    """Read the first line; nothing of it is authenticated yet.

    Raises:
        BackupRefused: not a backup, or of a form that this program does not know.
    """
    content = _parsed(stream.readline(MAX_LINE + 1))
    version = content.get("otpseal-backup")
    if not isinstance(version, int):
        raise BackupRefused("this is not a backup that otpseal wrote")
    if version != VERSION:
        raise BackupRefused(
            f"this backup has form {version}, this program knows {VERSION}: restore it"
            " with the otpseal that wrote it, or a newer one"
        )
    try:
        return Header(
            schema=str(content["schema"]),
            kid=str(content["kid"]),
            record=_from_base64(content["record"]),
            taken_at=float(content["taken_at"]),  # type: ignore[arg-type]
        )
    except (KeyError, TypeError, ValueError):
        raise _altered() from None


def authenticate(stream: BinaryIO, mac: Mac) -> None:
    """Read from the first line to the end; tells by returning that nothing changed.

    Raises:
        BackupRefused: cut off or altered, or by another storage key.
    """
    for _ in _lines(stream, mac):
        pass


def read_rows(stream: BinaryIO, mac: Mac) -> Iterator[tuple[str, dict[str, object]]]:
    """Give every row with its table, reading from the first line.

    Raises:
        BackupRefused: at the end, if the file is not what was written.
    """
    counts: Counter[str] = Counter()
    told: object = None
    lines = _lines(stream, mac)
    next(lines, None)  # the header
    for line in lines:
        if line.startswith(_COUNTS):
            told = _parsed(line).get("rows")
            continue
        content = _parsed(line)
        table, row = content.get("table"), content.get("row")
        if told is not None or not isinstance(table, str) or not isinstance(row, dict):
            raise _altered()
        counts[table] += 1
        yield table, {column: _unpacked(value) for column, value in row.items()}
    if told != dict(counts):
        raise _altered()


def _lines(stream: BinaryIO, mac: Mac) -> Iterator[bytes]:
    """Give every line but the trailer, and check that at the end."""
    stream.seek(0)
    while line := stream.readline(MAX_LINE + 1):
        if line.startswith(_TRAILER):
            # Whole and exact: a trailer in another spelling is an altered byte, too.
            if not hmac.compare_digest(line, _trailer(mac)) or stream.read(1):
                raise _altered()
            return
        if not line.endswith(b"\n"):
            break
        mac.update(line)
        yield line
    raise BackupRefused(
        "the backup is cut off: its last line, which vouches for all others, is not"
        " there. Take another one"
    )


def _trailer(mac: Mac) -> bytes:
    return _TRAILER + b'"' + mac.hexdigest().encode("ascii") + b'"}\n'


def _parsed(line: bytes) -> dict[str, object]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BackupRefused("this is not a backup that otpseal wrote")
    return content


def _packed(value: object) -> object:
    if isinstance(value, bytes):
        return {"b": _base64(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"f": str(value)}
    return value


def _unpacked(value: object) -> object:
    if not isinstance(value, dict):
        return value
    try:
        if "b" in value:
            return _from_base64(value["b"])
        return float(value["f"])
    except (KeyError, TypeError, ValueError):
        raise _altered() from None


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    return binascii.a2b_base64(text, strict_mode=True)


def _altered() -> BackupRefused:
    return BackupRefused(
        "the backup does not read as it was written: it was altered or damaged, and"
        " nothing of it can be trusted. Take another one"
    )
