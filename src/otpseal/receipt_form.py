"""The form of a receipt, read strictly: which text is one, and what it says.

The bytes are drawn in `otpseal.receipt`. Total: any text gives `Fields` or
`ReceiptRefused`. One value has one spelling: base64url that decodes alike but is
written otherwise, a member twice, a member more are all refused.

Leaves out: whether anything of it is true.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from otpseal.account_id import is_account_id
from otpseal.errors import ReceiptRefused

#: Random bytes in each side's nonce.
NONCE_BYTES: Final = 16

#: Longest receipt that is looked at, in characters; a good one has under 1000.
MAX_CHARS: Final = 2048

_DIGEST_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_MAX_NUMBER: Final = 2**53 - 1  # what every JSON reader has exactly (RFC 8259)
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_PARTS: Final = 3
_MEMBERS: Final = {
    "iss",
    "iat",
    "envelope",
    "account",
    "kid",
    "event",
    "nonce",
    "service_nonce",
    "mac",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """What a receipt says, well-formed and unverified.

    Attributes:
        header: the protected header, whatever is in it.
        issuer: kid of the key that is said to sign.
        issued_at: Unix seconds by the service's clock.
        digest: SHA-256 of the envelope's text.
        account: the account's id.
        kid: the import key that opened the envelope.
        event: id of the service's audit event.
        nonce: the authority's.
        service_nonce: the service's.
        mac: the key confirmation.
    """

    header: dict[str, Any]
    issuer: str
    issued_at: int
    digest: bytes
    account: str
    kid: str
    event: int
    nonce: bytes
    service_nonce: bytes
    mac: bytes


def parse(text: str) -> Fields:
    """Return what a stranger's text says as a receipt.

    Raises:
        ReceiptRefused: it is none.
    """
    parts = text[: MAX_CHARS + 1].split(".")
    if len(text) > MAX_CHARS or len(parts) != _PARTS:
        raise ReceiptRefused
    header, payload, signature = map(_decode, parts)
    if len(signature) != _SIGNATURE_BYTES:
        raise ReceiptRefused
    return _fields(_json_object(header), _json_object(payload))


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        parsed = _DECODER.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # json's own errors are ValueErrors
        raise ReceiptRefused from None
    if not isinstance(parsed, dict):
        raise ReceiptRefused
    return parsed


def _fields(header: dict[str, Any], payload: dict[str, Any]) -> Fields:
    if payload.keys() != _MEMBERS:
        raise ReceiptRefused
    return Fields(
        header=header,
        issuer=_kid(payload["iss"]),
        issued_at=_number(payload["iat"]),
        digest=_binary(payload["envelope"], _DIGEST_BYTES),
        account=_account(payload["account"]),
        kid=_kid(payload["kid"]),
        event=_number(payload["event"]),
        nonce=_binary(payload["nonce"], NONCE_BYTES),
        service_nonce=_binary(payload["service_nonce"], NONCE_BYTES),
        mac=_binary(payload["mac"], _DIGEST_BYTES),
    )


def _kid(value: object) -> str:
    if not isinstance(value, str) or not _KID.fullmatch(value):
        raise ReceiptRefused
    return value


def _account(value: object) -> str:
    if not isinstance(value, str) or not is_account_id(value):
        raise ReceiptRefused
    return value


def _number(value: object) -> int:
    # bool is an int in Python, and no number in JSON.
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise ReceiptRefused
    return value


def _binary(value: object, length: int) -> bytes:
    if not isinstance(value, str):
        raise ReceiptRefused
    raw = _decode(value)
    if len(raw) != length:
        raise ReceiptRefused
    return raw


def encode(raw: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise ReceiptRefused from None
    # The decoder skips what is not in its alphabet; encoding it back does not.
    if encode(raw) != text:
        raise ReceiptRefused
    return raw


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("duplicate key")
    return parsed


_DECODER: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
)
