"""What one row of any format may hold: the rules that all parsers share.

A row that breaks one becomes a `Fault` with static words. Nothing is mended: a name
or a number outside the rules is refused, not cut, folded or rounded.

Leaves out: how a file is cut into rows, and whether accounts clash with each other.
"""

import base64
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from otpseal.account_id import is_account_id
from otpseal.secret import Secret

Type = Literal["totp", "hotp"]
Algorithm = Literal["SHA1", "SHA256", "SHA512"]

#: Seed sizes in bytes. RFC 4226 section 4 R6: at least 128 bits.
SEED_BYTES: Final = range(16, 65)
#: Digits of a code (RFC 4226 section 5.3; more than 8 no authenticator shows).
DIGITS: Final = range(6, 9)
#: Length of a step in seconds.
PERIODS: Final = range(15, 301)
#: Steps before and after the current one that are accepted.
WINDOWS: Final = range(2)
#: HOTP counters: what a signed 64-bit column holds.
COUNTERS: Final = range(2**63)
#: Longest issuer or label, in characters, and in bytes of UTF-8: an otpauth URI has
#: three characters for a byte, and has to fit a QR code (2,331 at level M).
MAX_NAME_CHARS: Final = 128
MAX_NAME_BYTES: Final = 192

_ALGORITHMS: Final[dict[str, Algorithm]] = {
    "SHA1": "SHA1",
    "SHA256": "SHA256",
    "SHA512": "SHA512",
}
_NOT_RFC: Final = {
    "steam": "Steam's codes are not those of RFC 6238",
    "motp": "mOTP's codes are not those of RFC 6238",
    "yandex": "Yandex's codes are not those of RFC 6238",
    "yaotp": "Yandex's codes are not those of RFC 6238",
}
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_BASE32: Final = re.compile(r"([A-Za-z2-7]+)(=*)", re.ASCII)
# Control characters, lone surrogates (JSON can write them, UTF-8 cannot) and line
# separators.
_UNFIT: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
# These turn the text after them around, so that a name can look like another.
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Entry:
    """One account as a file describes it.

    Attributes:
        line: where it stands: line of a text, number of a JSON entry, from 1.
        account: the account id that the file gives, or None.
        issuer: who the account is with; may be empty.
        label: whose account it is; may be empty.
        type: "totp" (RFC 6238) or "hotp" (RFC 4226).
        algorithm: "SHA1", "SHA256" or "SHA512".
        digits: length of a code, 6 to 8.
        period: length of a step in seconds, 15 to 300; 30 for HOTP.
        counter: the next counter of HOTP, 0 to 2**63 - 1; 0 for TOTP.
        window: 0 or 1 step, or None where the file does not say.
        seed: 16 to 64 bytes.
        drift: steps by which its device is ahead.
    """

    line: int
    account: str | None
    issuer: str
    label: str
    type: Type
    algorithm: Algorithm
    digits: int
    period: int
    counter: int
    window: int | None
    seed: Secret = field(repr=False)
    drift: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is no account.

    Attributes:
        line: as in `Entry`.
        reason: static words, fit to be shown; never a piece of the row.
    """

    line: int
    reason: str


class RowError(Exception):
    """A row breaks a rule. It never leaves the package: parsers make it a `Fault`.

    Attributes:
        reason: as in `Fault`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def make_entry(
    line: int,
    *,
    secret: str,
    kind: str = "totp",
    account: str | None = None,
    issuer: str = "",
    label: str = "",
    algorithm: str | None = None,
    digits: int | None = None,
    period: int | None = None,
    counter: int | None = None,
    window: int | None = None,
    drift: int | None = None,
) -> Entry:
    """Return the account of a row; None stands for what the row does not say.

    Args:
        line: as in `Entry`.
        secret: the seed in base32, see `parse_seed`.
        kind: the type, in any case.
        account: the account id.
        issuer: see `names_fault`.
        label: see `names_fault`.
        algorithm: in any spelling that `parse_algorithm` knows; None for SHA1.
        digits: 6 to 8; None for 6.
        period: 15 to 300 seconds, None for 30; not looked at for HOTP.
        counter: 0 to 2**63 - 1, has to be given for HOTP; None or 0 for TOTP.
        window: 0 or 1.
        drift: as in `Entry`, as the format's parser found it.

    Raises:
        RowError: a value is outside its range, or does not belong to the type.
    """
    if account is not None and not is_account_id(account):
        raise RowError("the id breaks the rule for account ids")
    if fault := names_fault(issuer, label):
        raise RowError(fault)
    type_ = _type(kind)
    if window is not None and window not in WINDOWS:
        raise RowError("the window is neither 0 nor 1")
    return Entry(
        line=line,
        account=account,
        issuer=issuer,
        label=label,
        type=type_,
        algorithm=parse_algorithm(algorithm),
        digits=_within(digits, DIGITS, 6, "digits are 6 to 8"),
        period=_period(type_, period),
        counter=_counter(type_, counter),
        window=window,
        seed=parse_seed(secret),
        drift=drift or 0,
    )


def names_fault(issuer: str, label: str) -> str | None:
    """Return what is wrong with issuer and label, or None if nothing is.

    Both have at most 128 characters and 192 bytes, no control characters or text
    direction overrides, no blank at either end. The Key URI format separates the two
    by a colon: the issuer holds none, and a label that does needs an issuer.
    """
    if fault := _name_fault(issuer) or _name_fault(label):
        return f"issuer or label {fault}"
    if ":" in issuer:
        return "the issuer holds a colon"
    if ":" in label and not issuer:
        return "the label holds a colon, and there is no issuer"
    return None


def _name_fault(name: str) -> str | None:
    if len(name) > MAX_NAME_CHARS:
        return "has more than 128 characters"
    if name.strip() != name:
        return "begins or ends with a blank"
    if any(unicodedata.category(c) in _UNFIT or c in _BIDI for c in name):
        return "holds a control character"
    if len(name.encode()) > MAX_NAME_BYTES:  # by now without halves of surrogate pairs
        return "has more than 192 bytes of UTF-8"
    return None


def parse_seed(text: str) -> Secret:
    """Return the 16 to 64 bytes behind base32 (RFC 4648 section 6).

    Upper or lower case; blanks anywhere and missing padding are tolerated, wrong
    padding and nonzero trailing bits are not (RFC 4648 section 3.5): two spellings of
    one seed would hide that it is one.

    Raises:
        RowError: anything else.
    """
    found = _BASE32.fullmatch(text.replace(" ", ""))
    if found is None:
        raise RowError("the secret is not base32")
    digits, padding = found[1].upper(), found[2]
    full = "=" * (-len(digits) % 8)
    # 1, 3 or 6 characters over are no whole number of bytes.
    if len(full) in {2, 5, 7} or padding not in {"", full}:
        raise RowError("the secret is not base32: its length or padding is wrong")
    seed = base64.b32decode(digits + full)
    if base64.b32encode(seed).decode("ascii") != digits + full:
        raise RowError("the secret is not base32: its last bits are not zero")
    if len(seed) not in SEED_BYTES:
        raise RowError("the secret has fewer than 16 or more than 64 bytes")
    return Secret(seed)


def parse_algorithm(text: str | None) -> Algorithm:
    """Return the algorithm; SHA1, SHA-1 and HmacSHA1 are one, in any case.

    Raises:
        RowError: it is none of the three.
    """
    if text is None:
        return "SHA1"
    known = None
    if text.isascii():
        name = text.upper().removeprefix("HMAC")
        known = _ALGORITHMS.get(name.replace("SHA-", "SHA", 1))
    if known is None:
        raise RowError("the algorithm is none of SHA1, SHA256 and SHA512")
    return known


def parse_number(text: str) -> int:
    """Return the number that ASCII digits write, without sign or leading zeros.

    Raises:
        RowError: anything else, and more than 19 digits.
    """
    if _NUMBER.fullmatch(text) is None:
        raise RowError("digits, period, counter or window is not a number")
    return int(text)


def split_label(text: str) -> tuple[str, str]:
    """Split a label of the Key URI format into issuer and name.

    The first colon separates; blanks after it belong to the separator.
    """
    prefix, colon, name = text.partition(":")
    return (prefix, name.lstrip(" ")) if colon else ("", text)


def _type(kind: str) -> Type:
    name = kind.lower() if kind.isascii() else ""
    if name in {"totp", "hotp"}:
        return cast("Type", name)
    raise RowError(_NOT_RFC.get(name, "the type is neither totp nor hotp"))


def _period(type_: Type, period: int | None) -> int:
    if type_ == "hotp":
        return 30  # written by some applications, and without a meaning
    return _within(period, PERIODS, 30, "the period is 15 to 300 seconds")


def _counter(type_: Type, counter: int | None) -> int:
    if type_ == "totp":
        # Somebody meant HOTP: as TOTP none of its codes would ever match.
        if counter:
            raise RowError("a counter belongs to type hotp")
        return 0
    if counter is None:
        # A guessed 0 would accept codes that have been used.
        raise RowError("type hotp needs its counter")
    return _within(counter, COUNTERS, 0, "the counter is 0 to 2**63 - 1")


def _within(value: int | None, allowed: range, default: int, reason: str) -> int:
    if value is None:
        return default
    if value not in allowed:
        raise RowError(reason)
    return value
