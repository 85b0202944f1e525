"""PKCS#11 URIs (RFC 7512): which private key, in which token.

Strict: every attribute is known or refused, none stands twice, none is empty, and
what is not allowed bare (section 2.3) must be percent-encoded. Only the attributes
that name a token and a private key in it are taken:

    pkcs11:token=LABEL;object=LABEL[;id=%01][;serial=..][;manufacturer=..][;model=..]

Left out on purpose: slots, whose numbers change when devices are plugged in; the
module and the PIN, which are settings of their own. A PIN in a setting would stand
in process listings and in logs of the environment.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from otpseal.errors import ConfigurationError

SCHEME: Final = "pkcs11:"

#: Longest URI that is looked at, in characters.
MAX_CHARS: Final = 1024

#: Longest values in bytes: the fields of CK_TOKEN_INFO have these sizes.
_MAX_BYTES: Final = {
    "token": 32,
    "manufacturer": 32,
    "model": 16,
    "serial": 16,
    "object": 255,
    "id": 255,
    "type": 16,
}

_ELSEWHERE: Final = {
    "pin-value": "secrets do not belong in settings: put the PIN into a file and name"
    " it by OTPSEAL_PKCS11_PIN_FILE",
    "pin-source": "name the PIN's file by OTPSEAL_PKCS11_PIN_FILE",
    "module-path": "name the module's file by OTPSEAL_PKCS11_MODULE",
    "module-name": "name the module's file by OTPSEAL_PKCS11_MODULE",
    "slot-id": "tokens are found by their label: slots change",
    "slot-description": "tokens are found by their label: slots change",
    "slot-manufacturer": "tokens are found by their label: slots change",
}

# Section 2.3: pk11-pchar = unreserved / pk11-res-avail / "&" / pct-encoded.
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})+")
_NAME: Final = re.compile(r"[a-z][a-z-]{0,31}")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """A private key in a token.

    Attributes:
        token: the token's label.
        object: the key's label (CKA_LABEL), or None for any.
        id: the key's id (CKA_ID), or None for any.
        serial: the token's serial number, or None for any.
        manufacturer: the token's manufacturer, or None for any.
        model: the token's model, or None for any.
    """

    token: str
    object: str | None = None
    id: bytes | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None


def parse(text: str, setting: str = "OTPSEAL_KEY") -> Pkcs11Uri:
    """Read a PKCS#11 URI that names a token and a private key.

    Args:
        text: the URI.
        setting: what it was given as, for the error.

    Raises:
        ConfigurationError: anything else; names the attribute, never its value.
    """
    try:
        return _parse(text)
    except _NoUriError as why:
        raise ConfigurationError(
            f"{setting} is no PKCS#11 URI that can be used: {why}"
        ) from None


def text_of(uri: Pkcs11Uri) -> str:
    """Return the URI as text: whatever is not unreserved is percent-encoded."""
    found: list[tuple[str, str | bytes | None]] = [
        ("token", uri.token),
        ("serial", uri.serial),
        ("manufacturer", uri.manufacturer),
        ("model", uri.model),
        ("object", uri.object),
    ]
    parts = [f"{name}={quote(value, safe='')}" for name, value in found if value]
    if uri.id:
        parts.append("id=" + "".join(f"%{byte:02X}" for byte in uri.id))
    return SCHEME + ";".join(parts)


class _NoUriError(Exception):
    """Why a text is none; shown by `parse`, with the setting."""


def _parse(text: str) -> Pkcs11Uri:
    if len(text) > MAX_CHARS or not text.startswith(SCHEME):
        raise _NoUriError(
            f"it begins with {SCHEME} and has at most {MAX_CHARS} characters"
        )
    path, mark, query = text.removeprefix(SCHEME).partition("?")
    if mark:
        for part in query.split("&"):
            _refuse_name(part.partition("=")[0])
    found: dict[str, bytes] = {}
    for part in path.split(";"):
        name, equals, value = part.partition("=")
        if name not in _MAX_BYTES:
            _refuse_name(name)
        if name in found:
            raise _NoUriError(f"{name} stands in it twice")
        if not equals or not _VALUE.fullmatch(value):
            raise _NoUriError(
                f"{name} is empty, or has characters that are to be written %XX"
            )
        found[name] = _decode(value)
        if len(found[name]) > _MAX_BYTES[name]:
            raise _NoUriError(f"{name} is longer than {_MAX_BYTES[name]} bytes")
    return _of(found)


def _of(found: dict[str, bytes]) -> Pkcs11Uri:
    key_id = found.pop("id", None)
    texts = {name: _text(name, value) for name, value in found.items()}
    if texts.pop("type", "private") != "private":
        raise _NoUriError("its type is private, or not given")
    if "token" not in texts:
        raise _NoUriError("it names the token by token=LABEL")
    if key_id is None and "object" not in texts:
        raise _NoUriError("it names the key by object=LABEL, by id=%XX, or by both")
    return Pkcs11Uri(**texts, id=key_id)


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise _NoUriError(f"{name} is not UTF-8") from None
    # Labels are padded with blanks and C strings end at a zero: what a module would
    # cut off could make two names one.
    if not text.isprintable() or text != text.strip():
        raise _NoUriError(f"{name} has control characters, or blanks around it")
    return text


def _decode(value: str) -> bytes:
    return _ESCAPE.sub(
        lambda found: bytes.fromhex(found[1].decode("ascii")), value.encode("ascii")
    )


def _refuse_name(name: str) -> None:
    if name in _ELSEWHERE:
        raise _NoUriError(f"{name} is not taken: {_ELSEWHERE[name]}")
    if _NAME.fullmatch(name):
        raise _NoUriError(f"the attribute {name} is not known here")
    raise _NoUriError("it is attributes name=value with semicolons between them")
