"""Google's Key URI format, one URI a line: read and written.

``otpauth://totp/Issuer:label?secret=BASE32&issuer=Issuer&algorithm=SHA1&digits=6``
``&period=30``; ``hotp`` needs ``counter``. Blank lines and lines that begin with ``#``
are skipped. Scheme, type and parameter names are read in any case.

Where the issuer parameter and the label's prefix differ, the parameter wins and the
prefix is dropped: authenticators show the parameter; the prefix is the older form.
Parameters that are not known (``image``) are skipped.
"""

import base64
import re
from typing import Final
from urllib.parse import quote, unquote

from otpseal.errors import FileRefused
from otpseal.formats.content import text_of
from otpseal.formats.row import (
    Entry,
    Fault,
    RowError,
    make_entry,
    parse_number,
    split_label,
)
from otpseal.secret import Secret

_SCHEME: Final = re.compile(r"otpauth(-migration)?://", re.ASCII | re.IGNORECASE)
_URI: Final = re.compile(
    r"otpauth://([A-Za-z0-9]+)/([^?#]*)\?([^#]*)", re.ASCII | re.IGNORECASE
)
_PRINTABLE: Final = re.compile(r"[!-~]+", re.ASCII)
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)


def parse(content: bytes) -> list[Entry | Fault]:
    """Return an entry or a fault for every line that holds something.

    Raises:
        FileRefused: no line is an otpauth URI; larger than 64 MiB; not UTF-8.
    """
    # Not `splitlines`: it also cuts at U+2028 and form feeds, and line numbers would
    # no longer be those of an editor.
    lines = (line.strip(" \t\r") for line in text_of(content).split("\n"))
    filled = [(n, line) for n, line in enumerate(lines, start=1) if is_filled(line)]
    if not any(is_uri(line) for _, line in filled):
        raise FileRefused("no line of the file is an otpauth URI")
    return [_row(number, line) for number, line in filled]


def is_filled(line: str) -> bool:
    """Tell whether a stripped line is neither empty nor a comment."""
    return bool(line) and not line.startswith("#")


def is_uri(line: str) -> bool:
    """Tell whether a line claims to be an otpauth URI, well-formed or not."""
    return _SCHEME.match(line) is not None


def key_uri(
    seed: Secret,
    *,
    issuer: str,
    label: str,
    kind: str = "totp",
    algorithm: str = "SHA1",
    digits: int = 6,
    period: int = 30,
    counter: int = 0,
) -> str:
    """Return the URI from which an authenticator, or `parse`, reads this account.

    As secret as the seed. Everything outside RFC 3986's unreserved characters is
    percent-encoded as UTF-8, blanks as %20; every parameter is written out. pyotp's own
    builder does not serve: it refuses periods above 120 s, and leaves slashes in
    labels.

    Args:
        seed: 16 to 64 bytes.
        issuer: see `otpseal.formats.row.names_fault`.
        label: as issuer.
        kind: "totp" or "hotp".
        algorithm: "SHA1", "SHA256" or "SHA512".
        digits: 6 to 8.
        period: 15 to 300 seconds; written for TOTP alone.
        counter: 0 to 2**63 - 1; written for HOTP alone.

    Raises:
        ValueError: a value is outside its range; never says the value.
    """
    secret = base64.b32encode(seed.reveal()).decode("ascii").rstrip("=")
    try:
        make_entry(
            1,
            secret=secret,
            kind=kind,
            issuer=issuer,
            label=label,
            algorithm=algorithm,
            digits=digits,
            period=period,
            counter=counter if kind == "hotp" else None,
        )
    except RowError as refused:
        raise ValueError(refused.reason) from None
    name = f"{quote(issuer, safe='')}:{quote(label, safe='')}" if issuer else ""
    query = {
        "secret": secret,
        **({"issuer": quote(issuer, safe="")} if issuer else {}),
        "algorithm": algorithm,
        "digits": digits,
        **({"period": period} if kind == "totp" else {"counter": counter}),
    }
    parameters = "&".join(f"{key}={value}" for key, value in query.items())
    return f"otpauth://{kind}/{name or quote(label, safe='')}?{parameters}"


def _row(number: int, line: str) -> Entry | Fault:
    try:
        return _entry(number, line)
    except RowError as refused:
        return Fault(number, refused.reason)


def _entry(number: int, line: str) -> Entry:
    scheme = _SCHEME.match(line)
    if scheme is None:
        raise RowError("this is no otpauth URI")
    if scheme[1]:
        raise RowError(
            "this is a transfer code of Google Authenticator, which holds several"
            " accounts: turn it into otpauth URIs"
        )
    if _PRINTABLE.fullmatch(line) is None:
        raise RowError("blanks and characters beyond ASCII are to be percent-encoded")
    found = _URI.fullmatch(line)
    if found is None:
        raise RowError("this is no otpauth URI: it is otpauth://TYPE/LABEL?PARAMETERS")
    given = _parameters(found[3])
    if "secret" not in given:
        raise RowError("the URI holds no secret")
    if "encoder" in given:
        raise RowError("the URI asks for codes in another form than that of RFC 4226")
    prefix, label = split_label(_decoded(found[2]))
    return make_entry(
        number,
        secret=given["secret"],
        kind=found[1],
        issuer=given.get("issuer") or prefix,
        label=label,
        algorithm=given.get("algorithm"),
        digits=_number(given.get("digits")),
        period=_number(given.get("period")),
        counter=_number(given.get("counter")),
    )


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters by name in lower case; every name stands once."""
    given: dict[str, str] = {}
    for pair in query.split("&"):
        # In a query, though not in a path, `+` is a blank to what makes such URIs
        # (form encoding) and to the authenticators that read them.
        name, _, value = (
            _decoded(part) for part in pair.replace("+", "%20").partition("=")
        )
        if name.lower() in given:
            # One reader takes the first, another the last.
            raise RowError("a parameter is given twice")
        given[name.lower()] = value
    return given


def _number(text: str | None) -> int | None:
    return None if text is None else parse_number(text)


def _decoded(text: str) -> str:
    if len(_ESCAPE.findall(text)) != text.count("%"):
        raise RowError("a percent sign is not followed by two hex digits")
    try:
        return unquote(text, encoding="utf-8", errors="strict")
    except UnicodeDecodeError:
        raise RowError("what is percent-encoded is not UTF-8") from None
