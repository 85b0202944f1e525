"""The form of a receipt, read strictly: which text is one, and what it says.

The bytes are drawn in `otpseal.receipt`. Total: any text gives `Fields` or
`ReceiptRefused`. One value has one spelling: base64url that decodes alike but is
written otherwise, a member twice, a member more are all refused.

Leaves out: whether anything of it is true.
"""

from dataclasses import dataclass
from typing import Any, Final

from otpseal import base64url, strict_json
from otpseal.account_id import is_account_id
from otpseal.errors import ReceiptRefused
from otpseal.kid import is_kid
from otpseal.seed_claims import NONCE_BYTES

#: Longest receipt that is looked at, in characters; a good one has under 1000.
MAX_CHARS: Final = 2048

_DIGEST_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
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
        return strict_json.parse_object(raw)
    except ValueError:
        raise ReceiptRefused from None


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
    if not is_kid(value):
        raise ReceiptRefused
    return str(value)


def _account(value: object) -> str:
    if not isinstance(value, str) or not is_account_id(value):
        raise ReceiptRefused
    return value


def _number(value: object) -> int:
    # bool is an int in Python, and no number in JSON.
    if type(value) is not int or not 0 <= value <= strict_json.MAX_EXACT:
        raise ReceiptRefused
    return value


def _binary(value: object, length: int) -> bytes:
    if not isinstance(value, str):
        raise ReceiptRefused
    raw = _decode(value)
    if len(raw) != length:
        raise ReceiptRefused
    return raw


def _decode(text: str) -> bytes:
    try:
        return base64url.decode(text)
    except ValueError:
        raise ReceiptRefused from None
