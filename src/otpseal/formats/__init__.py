"""The files that accounts move in from, and which of them a file is.

Pure parsers: bytes in, an `Entry` or a `Fault` for each row out. They choose no
account id, look for no duplicates and store nothing.
"""

import enum
from collections.abc import Callable
from typing import Final

from otpseal.errors import FileRefused
from otpseal.formats import aegis, csv_rows, otpauth, twofas
from otpseal.formats.content import json_object_of, text_of
from otpseal.formats.row import Entry, Fault


class Format(enum.Enum):
    """A format by the name that people give it."""

    OTPAUTH = "otpauth"
    CSV = "csv"
    AEGIS = "aegis"
    TWOFAS = "2fas"


_PARSERS: Final[dict[Format, Callable[[bytes], list[Entry | Fault]]]] = {
    Format.OTPAUTH: otpauth.parse,
    Format.CSV: csv_rows.parse,
    Format.AEGIS: aegis.parse,
    Format.TWOFAS: twofas.parse,
}

_UNKNOWN: Final = (
    "the file is in none of the formats that are read: otpauth URIs, CSV with a header,"
    " the unencrypted JSON exports of Aegis and 2FAS, PSKC containers, and what"
    " `otpseal account export` wrote"
)


def parse(content: bytes, form: Format) -> list[Entry | Fault]:
    """Return an entry or a fault for each row of a file of format `form`.

    Raises:
        FileRefused: the file as a whole is not of this format.
    """
    return _PARSERS[form](content)


def detect(content: bytes) -> Format:
    """Return the format that `content` looks like; it may still be refused as that.

    Raises:
        FileRefused: it looks like none, is no UTF-8 or larger than 64 MiB.
    """
    text = text_of(content).lstrip(" \t\r\n")
    if text.startswith("{"):
        return _detect_json(content)
    lines = (line.strip(" \t\r") for line in text.split("\n"))
    if otpauth.is_uri(next(filter(otpauth.is_filled, lines), "")):
        return Format.OTPAUTH
    if csv_rows.has_header(text.partition("\n")[0]):
        return Format.CSV
    raise FileRefused(_UNKNOWN)


def _detect_json(content: bytes) -> Format:
    keys = json_object_of(content).keys()
    if keys >= {"header", "db"}:
        return Format.AEGIS
    if keys & {"services", "servicesEncrypted"}:
        return Format.TWOFAS
    raise FileRefused(_UNKNOWN)
