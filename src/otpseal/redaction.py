"""What a log line may not hold: secrets by the name of their field, and by shape.

Nothing of otpseal logs a secret on purpose; this stands behind that, for libraries
and for the line that somebody adds in a hurry. It errs on the side of the secret:
what only looks like one is masked too. What it leaves out: text that was split,
grouped or encoded twice, and codes that stand in a sentence, where they look like any
number.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

MASK: Final = "[redacted]"

#: A field whose name has one of these words is masked whole.
_SECRET_WORDS: Final = frozenset(
    {
        "auth",
        "authorization",
        "code",
        "codes",
        "cookie",
        "credential",
        "credentials",
        "key",
        "passphrase",
        "passwd",
        "password",
        "pem",
        "recovery",
        "secret",
        "secrets",
        "seed",
        "seeds",
        "token",
        "tokens",
        "uri",
    }
)

#: A field whose name has one of these words may hold a code: a run of 6 to 8 digits
#: that stands alone is masked in it.
_SUSPICIOUS_WORDS: Final = frozenset(
    {
        "answer",
        "argument",
        "attempt",
        "body",
        "code",
        "content",
        "data",
        "digits",
        "input",
        "otp",
        "otps",
        "param",
        "path",
        "payload",
        "pin",
        "query",
        "submitted",
        "text",
        "totp",
        "hotp",
        "url",
        "value",
        "values",
    }
)

#: Names with a secret word that hold no secret. They are still suspicious.
_HARMLESS_NAMES: Final = frozenset(
    {
        "code_log",
        "code_log_age_s",
        "error_code",
        "exit_code",
        "key_file",
        "key_id",
        "status_code",
    }
)

# RFC 7638 thumbprints of public keys: they look like a secret and are none.
_PUBLIC_NAMES: Final = frozenset({"kid", "key_id"})

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_URI: Final = re.compile(r"otpauth(?:-migration)?:(?:/|%2f)\S*", re.IGNORECASE)
_TOKEN: Final = re.compile(r"otpseal_[A-Za-z0-9_-]{8,}")
_BEARER: Final = re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE)
# No boundaries: a secret may be glued to what comes before it. Base64 of both alphabets
# covers hex from 40 characters on.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_BASE32: Final = re.compile(r"[A-Z2-7]{26}|[a-z2-7]{26}")
# A seed of the least length, 16 bytes, has 32.
_HEX: Final = re.compile(r"[0-9a-f]{32}|[0-9A-F]{32}")
# What is masked if one of them is in it: the digits of one may end a run of the other.
_RUN: Final = re.compile(r"[A-Za-z0-9]{26,}")
_DIGITS: Final = re.compile(r"(?<![0-9])[0-9]{6,8}(?![0-9])")

# Lower-case segments with slashes between them: 30 random bytes read so once in 10^8.
_PATH: Final = re.compile(r"/?[a-z0-9_-]{1,25}(?:/[a-z0-9_-]{1,25})+/?")

_MAX_DEPTH: Final = 6


def redact_text(text: str, *, suspicious: bool = False, short_hex: bool = True) -> str:
    """Return `text` with everything that has a secret's shape masked.

    Args:
        text: any text.
        suspicious: whether 6 to 8 digits that stand alone are masked too.
        short_hex: whether 32 to 39 hex characters are; proxies make request ids so.
    """
    text = _URI.sub(MASK, text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _TOKEN.sub(MASK, text)
    text = _BASE64.sub(_mask_unless_path, text)
    shapes = (_BASE32, _HEX) if short_hex else (_BASE32,)
    text = _RUN.sub(partial(_mask_if, shapes), text)
    return _DIGITS.sub(MASK, text) if suspicious else text


def _mask_if(shapes: tuple[re.Pattern[str], ...], found: "re.Match[str]") -> str:
    return MASK if any(shape.search(found[0]) for shape in shapes) else found[0]


def _mask_unless_path(found: "re.Match[str]") -> str:
    return found[0] if _PATH.fullmatch(found[0]) else MASK


def redact(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a log line, fit to be written: JSON values only."""
    return _redact_mapping(fields, depth=0)


def _redact_mapping(fields: Mapping[str, object], *, depth: int) -> dict[str, object]:
    return {
        redact_text(str(name)): _redact_field(str(name), value, depth=depth)
        for name, value in fields.items()
    }


def _redact_field(name: str, value: object, *, depth: int) -> object:
    if name in _PUBLIC_NAMES:
        return value if isinstance(value, str) else MASK
    words = {word.lower() for word in _WORD.findall(name)}
    if name not in _HARMLESS_NAMES and words & _SECRET_WORDS and value is not None:
        return MASK
    suspicious = bool(words & _SUSPICIOUS_WORDS)
    short_hex = name != "request_id"
    return _redact_value(
        value, suspicious=suspicious, short_hex=short_hex, depth=depth + 1
    )


def _redact_value(
    value: object, *, suspicious: bool, short_hex: bool, depth: int
) -> object:
    if depth > _MAX_DEPTH or isinstance(value, bytes | bytearray | memoryview):
        return MASK
    if isinstance(value, Mapping):
        return _redact_mapping(value, depth=depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [
            _redact_value(
                item, suspicious=suspicious, short_hex=short_hex, depth=depth + 1
            )
            for item in value
        ]
    return _redact_scalar(value, suspicious=suspicious, short_hex=short_hex)


def _redact_scalar(value: object, *, suspicious: bool, short_hex: bool) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, BaseException):
        return type(value).__name__  # its message may repeat the input
    text = redact_text(str(value), suspicious=suspicious, short_hex=short_hex)
    return value if isinstance(value, int) and text == str(value) else text
