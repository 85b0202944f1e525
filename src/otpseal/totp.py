"""Which code belongs to which step: RFC 4226 and RFC 6238, and nothing else.

Codes that people are shown are made by pyotp (the only import of it). Codes that
attempts are matched against come from RFC 4226's own ten lines over `hmac.digest`:
pyotp there costs a third of the throughput, and its `verify` normalises Unicode. A
property test holds the two together.

Leaves out: what was spent (`otpseal.verification`), how often one may try
(`otpseal.throttle`), and the clock: `now` is always an argument, in Unix seconds.
"""

import base64
import hashlib
import hmac
import itertools
import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import pyotp

from otpseal.errors import ParametersRefused
from otpseal.secret import Secret

_DIGESTS: Final = {
    "SHA1": hashlib.sha1,
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
}
# A full-width or Arabic digit is no digit here; `\d` without ASCII would take it.
_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)


class OtpType(StrEnum):
    """What moves from one code to the next."""

    TOTP = "totp"
    """Time (RFC 6238)."""

    HOTP = "hotp"
    """A counter (RFC 4226). It is kept, matched and spent exactly as a step is."""


#: Counters after the last spent one that are looked at (RFC 4226 section 7.4, s).
LOOK_AHEAD: Final = 10

#: How far a resynchronisation looks (RFC 6238 section 6, RFC 4226 section 7.4):
#: steps before and after the current one, or counters ahead.
RESYNC_STEPS: Final = 60
RESYNC_COUNTERS: Final = 100

#: RFC 4226 section 4, R6: at least 128 bits. A service makes them of 20 to 64 bytes.
MIN_SEED_BYTES: Final = 16
MAX_SEED_BYTES: Final = 64

_MAX_COUNTER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Parameters:
    """What turns a seed into codes.

    Attributes:
        algorithm: "SHA1", "SHA256" or "SHA512" (RFC 6238 section 1.2).
        digits: length of a code, 6 to 8.
        period: length of a step in seconds, 15 to 300; without meaning for HOTP.
        type: time or counter.
        window: steps accepted before and after the current one, 0 or 1 (RFC 6238
            section 5.2); without meaning for HOTP.
    """

    algorithm: str = "SHA1"
    digits: int = 6
    period: int = 30
    type: OtpType = OtpType.TOTP
    window: int = 1

    def check(self) -> None:
        """Tell by returning that these are parameters that otpseal takes.

        Raises:
            ParametersRefused: says which is out of range.
        """
        if self.type not in tuple(OtpType):
            raise ParametersRefused("type must be totp or hotp")
        if self.algorithm not in _DIGESTS:
            raise ParametersRefused("algorithm must be SHA1, SHA256 or SHA512")
        if not 6 <= self.digits <= 8:  # noqa: PLR2004 - as the text says
            raise ParametersRefused("digits must be 6, 7 or 8")
        if not 15 <= self.period <= 300:  # noqa: PLR2004
            raise ParametersRefused("period must be 15 to 300 seconds")
        if self.window not in (0, 1):
            raise ParametersRefused("window must be 0 or 1")

    @property
    def canonical(self) -> bytes:
        """The bytes that bind a seed at rest to these parameters."""
        fields = (self.type, self.algorithm, self.digits, self.period, self.window)
        return ",".join(map(str, fields)).encode("ascii")

    def step_at(self, now: float, drift: int = 0) -> int:
        """Return the step that the account's device is at, `drift` from ours."""
        return step_at(now, self.period) + drift


CLASSIC: Final = Parameters()

#: The steps of a window with their codes. As secret as the seed while they last.
Candidates = tuple[tuple[int, bytes], ...]


def check_seed(seed: Secret) -> None:
    """Tell by returning that a seed has an acceptable length.

    Raises:
        ParametersRefused: shorter than 16 or longer than 64 bytes.
    """
    if not MIN_SEED_BYTES <= len(seed) <= MAX_SEED_BYTES:
        raise ParametersRefused(
            f"a seed must have {MIN_SEED_BYTES} to {MAX_SEED_BYTES} bytes"
        )


@dataclass(frozen=True, slots=True)
class Code:
    """A code and how long its step still lasts.

    Attributes:
        text: `digits` ASCII digits, zero-padded.
        valid_for: seconds to the end of the step, 1 to `period`.
    """

    text: str = field(repr=False)
    valid_for: int


def check_counter(counter: int) -> None:
    """Tell by returning that this can be the next counter of a HOTP account.

    Raises:
        ParametersRefused: negative, or too large to be counted on from.
    """
    if not 0 <= counter <= _MAX_COUNTER - RESYNC_COUNTERS:
        raise ParametersRefused("counter must be 0 to 2**63 - 101")


def step_at(now: float, period: int = 30) -> int:
    """Return the step T = floor(now / period) of RFC 6238 section 4.2, T0 = 0."""
    return math.floor(now / period)


def seconds_left(now: float, period: int = 30) -> int:
    """Return the whole seconds to the end of the step, 1 to `period`."""
    return period - math.floor(now) % period


def hotp(key: bytes, counter: int, *, digits: int = 6, algorithm: str = "SHA1") -> str:
    """Return the HOTP value of RFC 4226 section 5.3, zero-padded.

    Args:
        key: the shared secret K.
        counter: the moving factor C, 0 to 2**64 - 1.
        digits: 6 to 10.
        algorithm: as in `Parameters`.
    """
    mac = hmac.digest(key, counter.to_bytes(8, "big"), algorithm.lower())
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def generate(
    seed: Secret, now: float, parameters: Parameters = CLASSIC, drift: int = 0
) -> Code:
    """Return the code of the current step and its remaining validity.

    One `now` gives both, so that they cannot contradict each other. pyotp refuses
    seeds below 14 bytes, as RFC 4226 section 4 wants.

    Args:
        seed: the shared secret K.
        now: Unix seconds.
        parameters: of a TOTP account.
        drift: steps by which the account's device is ahead of us.
    """
    generator = pyotp.TOTP(
        _base32(seed),
        digits=parameters.digits,
        digest=_DIGESTS[parameters.algorithm],
        # pyotp refuses periods over two minutes; it is handed the step itself.
        interval=30,
    )
    return Code(
        generator.generate_otp(max(0, parameters.step_at(now, drift))),
        seconds_left(now, parameters.period),
    )


def is_code(text: str, digits: int = 6) -> bool:
    """Tell whether `text` is exactly `digits` ASCII digits."""
    return len(text) == digits and _DIGITS.fullmatch(text) is not None


def candidates(
    seed: Secret,
    now: float,
    *,
    window: int,
    parameters: Parameters = CLASSIC,
    drift: int = 0,
    last_step: int = -1,
) -> Candidates:
    """Return every step that a code may belong to with its code, earliest first.

    Args:
        seed: the shared secret K.
        now: Unix seconds.
        window: steps before and after the current one, 0 or 1, for TOTP.
        parameters: of the account.
        drift: steps by which a TOTP account's device is ahead of us.
        last_step: the last spent counter of a HOTP account. It is a candidate too,
            so that its code is told apart from a wrong one.
    """
    if parameters.type is OtpType.HOTP:
        return _codes(seed, parameters, last_step, last_step + LOOK_AHEAD)
    current = parameters.step_at(now, drift)
    return _codes(seed, parameters, current - window, current + window)


def resync_candidates(
    seed: Secret,
    now: float,
    *,
    parameters: Parameters = CLASSIC,
    last_step: int = -1,
) -> Candidates:
    """Return the wide window that two consecutive codes are looked for in.

    121 steps, 60 on either side of our own clock whatever the stored drift, so that
    drift stays bounded; for HOTP the last spent counter and 100 after it.
    """
    if parameters.type is OtpType.HOTP:
        return _codes(seed, parameters, last_step, last_step + RESYNC_COUNTERS)
    current = parameters.step_at(now)
    return _codes(seed, parameters, current - RESYNC_STEPS, current + RESYNC_STEPS)


def _codes(seed: Secret, parameters: Parameters, first: int, last: int) -> Candidates:
    key, digits, algorithm = seed.reveal(), parameters.digits, parameters.algorithm
    return tuple(
        (step, hotp(key, step, digits=digits, algorithm=algorithm).encode("ascii"))
        for step in range(max(0, first), min(last, _MAX_COUNTER) + 1)
    )


def match(code: str, among: Candidates) -> int | None:
    """Return the step that `code` belongs to, or None.

    Every candidate is compared in constant time, whichever matches. If two steps
    share the code the later one is returned: spending it spends the earlier too, so
    that one text is never accepted twice.

    Args:
        code: ASCII digits, see `is_code`.
        among: from `candidates`.
    """
    attempt = code.encode("ascii")
    found = None
    for step, candidate in among:
        if hmac.compare_digest(candidate, attempt):
            found = step
    return found


def match_pair(first: str, second: str, among: Candidates) -> int | None:
    """Return the step of `second` if both codes belong to consecutive steps.

    Every pair is compared in constant time; the latest that fits is returned.

    Args:
        first: ASCII digits, the earlier code.
        second: the code right after it.
        among: from `resync_candidates`.
    """
    attempts = first.encode("ascii"), second.encode("ascii")
    found = None
    for (_, before), (step, after) in itertools.pairwise(among):
        # Both, always: `and` would tell by its time whether the first one fits.
        if hmac.compare_digest(before, attempts[0]) & hmac.compare_digest(
            after, attempts[1]
        ):
            found = step
    return found


def _base32(seed: Secret) -> str:
    return base64.b32encode(seed.reveal()).decode("ascii").rstrip("=")
