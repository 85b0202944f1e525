"""A Key element of RFC 6030 section 4.3, and what it may hold to become an account."""

import base64
import datetime as dt
import re
from typing import Final

from otpseal.account_id import is_account_id
from otpseal.formats.pskc.protection import Protection
from otpseal.formats.pskc.tree import PSKC, Node
from otpseal.formats.row import Entry, RowError, make_entry, parse_number
from otpseal.totp import RESYNC_STEPS

#: Profiles by their names of today (RFC 6030 section 10.1) and of the drafts.
_PREFIXES: Final = (
    "urn:ietf:params:xml:ns:keyprov:pskc:",
    "urn:ietf:params:xml:ns:keyprov:pskc#",
    "http://www.ietf.org/keyprov/pskc#",
)
PROFILES: Final = {f"{prefix}{t}": t for prefix in _PREFIXES for t in ("hotp", "totp")}

#: Most bytes of an encrypted whole number, and the sizes of xs:int and xs:long, which
#: RFC 6030's schema has for them (section 11): these have a sign.
_MAX_INT_BYTES: Final = 8
_SIGNED_BYTES: Final = (4, 8)
#: Bytes that are also a number's text.
_AS_TEXT: Final = re.compile(rb"[ \t\r\n]*[+-]?[0-9]+[ \t\r\n]*")
_SIGNED: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)

#: By the schema of RFC 6030 (section 11), and by its text (section 4.3.4).
_CHECK_DIGITS: Final = ("CheckDigits", "CheckDigit")
#: What a key may be for (section 5).
_USAGES: Final = frozenset(
    {"OTP", "CR", "Encrypt", "Integrity", "Verify", "Unlock", "Decrypt"}
    | {"KeyWrap", "Unwrap", "Derive", "Generate"}
)

_KEY: Final = (
    *("Issuer", "AlgorithmParameters", "FriendlyName", "Data", "UserId", "Policy"),
    *("KeyProfileId", "KeyReference", "Extensions"),
)
_DEVICE: Final = (
    *("Manufacturer", "SerialNo", "Model", "IssueNo", "DeviceBinding", "StartDate"),
    *("ExpiryDate", "UserId", "Extensions"),
)


def entry_of(
    key: Node, device: Node | None, protection: Protection, *, line: int, now: float
) -> Entry:
    """Return the account that a Key describes.

    Its id is the key's Id if that is an account id. The issuer is Issuer, else the
    device's Manufacturer; the label FriendlyName, else SerialNo, else the Id.

    Raises:
        RowError: it is none that this service can be: another algorithm, a policy
            that it cannot keep, or what does not open.
    """
    key.holds_only(*_names(_KEY))
    kind = PROFILES.get(key.attributes.get("Algorithm", ""))
    if kind is None:
        raise RowError("Algorithm is neither HOTP nor TOTP")
    if key.maybe(f"{PSKC}KeyProfileId") or key.maybe(f"{PSKC}KeyReference"):
        raise RowError("the key refers to a profile or to another key")
    _require_in_force(device, now)
    _require_free(key.maybe(f"{PSKC}Policy"), now)
    hash_name, digits = _parameters(key.one(f"{PSKC}AlgorithmParameters"))
    values = _Values(key.one(f"{PSKC}Data"), protection)
    seed = values.secret()
    name = key.attributes.get("Id", "")
    issuer, label = _titles(key, device, name)
    return make_entry(
        line,
        secret=base64.b32encode(seed).decode("ascii"),
        kind=kind,
        account=name if is_account_id(name) else None,
        issuer=issuer,
        label=label,
        algorithm=hash_name,
        digits=digits,
        period=values.number("TimeInterval"),
        counter=values.number("Counter"),
        drift=_drift(values, kind),
    )


def _drift(values: "_Values", kind: str) -> int:
    """Return the steps by which a device is ahead."""
    if values.number("Time"):
        raise RowError("Time is not 0: steps would be counted from another time")
    drift = values.number("TimeDrift") or 0
    if kind == "hotp" and drift:
        raise RowError("TimeDrift belongs to TOTP")
    if abs(drift) > RESYNC_STEPS:
        raise RowError("TimeDrift is more than 60 steps")
    return drift


def _names(names: tuple[str, ...]) -> list[str]:
    return [f"{PSKC}{name}" for name in names]


def _titles(key: Node, device: Node | None, name: str) -> tuple[str, str]:
    """Return issuer and label; what is there but empty counts as given."""
    issuer = key.maybe(f"{PSKC}Issuer")
    maker = device and device.maybe(f"{PSKC}Manufacturer")
    serial = device and device.maybe(f"{PSKC}SerialNo")
    # One may stand for each language.
    friendly = next(iter(key.all(f"{PSKC}FriendlyName")), None)
    issuer, shown = issuer or maker, friendly or serial
    return (
        "" if issuer is None else issuer.leaf(),
        name if shown is None else shown.leaf(),
    )


def _parameters(given: Node) -> tuple[str | None, int]:
    """Return the hash, or None, and the digits."""
    given.holds_only(*_names(("Suite", "ResponseFormat")))
    form = given.one(f"{PSKC}ResponseFormat")
    form.holds_only()
    if form.attributes.keys() - {"Encoding", "Length", *_CHECK_DIGITS}:
        raise RowError("ResponseFormat asks for something that is not known")
    if form.attributes.get("Encoding") != "DECIMAL":
        raise RowError("ResponseFormat is not DECIMAL")
    checks = {form.attributes.get(name, "false") for name in _CHECK_DIGITS}
    if checks - {"false", "FALSE", "0"}:
        raise RowError("ResponseFormat asks for check digits")
    suite = given.maybe(f"{PSKC}Suite")
    name = None if suite is None else suite.leaf().upper().replace("HMAC-", "HMAC", 1)
    return name, parse_number(form.attributes.get("Length", ""))


def _require_in_force(device: Node | None, now: float) -> None:
    if device is None:
        return
    device.holds_only(*_names(_DEVICE))
    start = device.maybe(f"{PSKC}StartDate")
    end = device.maybe(f"{PSKC}ExpiryDate")
    if start is not None and now < _time(start):
        raise RowError("the device's StartDate is yet to come")
    if end is not None and _time(end) < now:
        raise RowError("the device's ExpiryDate is over")


def _require_free(policy: Node | None, now: float) -> None:
    """Check that a Policy asks for nothing that accounts here cannot keep.

    RFC 6030 section 5: where a policy has an element or a value that is not
    understood, the key may not be used. So with those that are, and could not be kept.
    """
    if policy is None:
        return
    if policy.attributes or policy.text:
        raise RowError("Policy holds something that is not known")
    for rule in policy.children:
        if rule.attributes or rule.name not in _names(("StartDate", "KeyUsage")):
            raise RowError(_UNKEPT.get(rule.name, _UNKNOWN_POLICY))
    start = policy.maybe(f"{PSKC}StartDate")
    if start is not None and now < _time(start):
        raise RowError("the policy's StartDate is yet to come")
    usages = {usage.leaf() for usage in policy.all(f"{PSKC}KeyUsage")}
    if usages - _USAGES:
        raise RowError("Policy holds a KeyUsage that is not known")
    if usages and "OTP" not in usages:
        raise RowError("the policy does not allow one-time passwords")


_UNKNOWN_POLICY: Final = "Policy holds an element that is not known"
_UNKEPT: Final = {
    f"{PSKC}ExpiryDate": "the policy ends its use at a date, which no account here"
    " keeps",
    f"{PSKC}NumberOfTransactions": "the policy counts its uses, which no account here"
    " does",
    f"{PSKC}PINPolicy": "the policy asks for a PIN, which no account here does",
}


def _time(node: Node) -> float:
    """Return the Unix time of an xs:dateTime; UTC where it does not say (section 5)."""
    text = node.leaf()
    if _TIME.fullmatch(text) is None:
        raise RowError("a date is not written as 2026-01-31T12:00:00Z")
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None:
        raise RowError("a date is none of the calendar")
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()


class _Values:
    """The Data of a key: values in clear, or encrypted."""

    def __init__(self, data: Node, protection: Protection) -> None:
        known = ("Secret", "Counter", "Time", "TimeInterval", "TimeDrift")
        data.holds_only(*_names(known))
        self._data = data
        self._protection = protection

    def secret(self) -> bytes:
        """Return the seed."""
        plain, opened = self._value(self._data.one(f"{PSKC}Secret"))
        if plain is None:
            return opened
        if not self._protection.is_clear:
            # Anyone could have put it there: it would pass for one of the encrypted.
            raise RowError("the secret is in clear, though the container is encrypted")
        return plain.binary()

    def number(self, name: str) -> int | None:
        """Return a whole number, or None if it is not given."""
        node = self._data.maybe(f"{PSKC}{name}")
        if node is None:
            return None
        plain, opened = self._value(node)
        if plain is not None:
            if _SIGNED.fullmatch(plain.leaf()) is None:
                raise RowError(f"{name} is not a whole number")
            return int(plain.leaf())
        # The RFC does not say what bytes a number has under encryption. Files have it
        # big-endian, in as many bytes as it needs or in those of its type; some have
        # its text, which python-pskc tries first: b"30" would be 30 or 13104.
        if len(opened) > _MAX_INT_BYTES:
            raise RowError(f"{name} has more than 8 bytes")
        if _AS_TEXT.fullmatch(opened):
            raise RowError(f"{name} could be read in two ways: as bytes, and as text")
        signed = name != "Counter" and len(opened) in _SIGNED_BYTES
        return int.from_bytes(opened, "big", signed=signed)

    def _value(self, node: Node) -> tuple[Node | None, bytes]:
        """Return PlainValue, or None and what was in EncryptedValue."""
        node.holds_only(*_names(("PlainValue", "EncryptedValue", "ValueMAC")))
        value = node.one(f"{PSKC}PlainValue", f"{PSKC}EncryptedValue")
        seal = node.maybe(f"{PSKC}ValueMAC")
        if value.name == f"{PSKC}EncryptedValue":
            return None, self._protection.open(value, seal=seal)
        if seal is not None:
            raise RowError("a ValueMAC stands beside a value in clear")
        return value, b""
