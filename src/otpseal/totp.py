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
import math
import re
from dataclasses import dataclass, field
from typing import Final

import pyotp

from otpseal.secret import Secret

_DIGESTS: Final = {
    "SHA1": hashlib.sha1,
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
}
# A full-width or Arabic digit is no digit here; `\d` without ASCII would take it.
_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What turns a seed into codes.

    Attributes:
        algorithm: "SHA1", "SHA256" or "SHA512" (RFC 6238 section 1.2).
        digits: length of a code, 6 to 8.
        period: length of a step in seconds.
    """

    algorithm: str = "SHA1"
    digits: int = 6
    period: int = 30


CLASSIC: Final = Parameters()

#: The steps of a window with their codes. As secret as the seed while they last.
Candidates = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """A code and how long its step still lasts.

    Attributes:
        text: `digits` ASCII digits, zero-padded.
        valid_for: seconds to the end of the step, 1 to `period`.
    """

    text: str = field(repr=False)
    valid_for: int


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


def generate(seed: Secret, now: float, parameters: Parameters = CLASSIC) -> Code:
    """Return the code of the current step and its remaining validity.

    One `now` gives both, so that they cannot contradict each other. pyotp refuses
    seeds below 14 bytes, as RFC 4226 section 4 wants.
    """
    generator = pyotp.TOTP(
        _base32(seed),
        digits=parameters.digits,
        digest=_DIGESTS[parameters.algorithm],
        interval=parameters.period,
    )
    step = step_at(now, parameters.period)
    return Code(generator.generate_otp(step), seconds_left(now, parameters.period))


def is_code(text: str, digits: int = 6) -> bool:
    """Tell whether `text` is exactly `digits` ASCII digits."""
    return len(text) == digits and _DIGITS.fullmatch(text) is not None


def candidates(
    seed: Secret,
    now: float,
    *,
    window: int,
    parameters: Parameters = CLASSIC,
) -> Candidates:
    """Return every step of the window at `now` with its code, earliest first.

    Args:
        seed: the shared secret K.
        now: Unix seconds.
        window: steps before and after the current one, 0 or 1.
        parameters: of the account.
    """
    current = step_at(now, parameters.period)
    key, digits, algorithm = seed.reveal(), parameters.digits, parameters.algorithm
    return tuple(
        (step, hotp(key, step, digits=digits, algorithm=algorithm).encode("ascii"))
        for step in range(max(0, current - window), current + window + 1)
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


def _base32(seed: Secret) -> str:
    return base64.b32encode(seed.reveal()).decode("ascii").rstrip("=")
