"""Recovery codes: ten a time, 80 random bits each, single use.

A code is 16 characters of RFC 4648 base32 in lower case, in groups of four:
`abcd-efgh-ijkl-mnop`. People type them, so that capitals and missing hyphens are
read; nothing else is.

Leaves out: how they rest (`StorageKey.recovery_digest`) and what using one does
(`otpseal.verification.decide_recovery`).
"""

import base64
import re
from collections.abc import Callable
from typing import Final

CODES: Final = 10
CODE_BYTES: Final = 10

_TYPED: Final = re.compile(r"[a-z2-7]{4}(-?[a-z2-7]{4}){3}", re.ASCII | re.IGNORECASE)


def make_codes(random: Callable[[int], bytes]) -> list[str]:
    """Return new codes in the form that people are shown."""
    return [_shown(random(CODE_BYTES)) for _ in range(CODES)]


def parse(typed: str) -> str | None:
    """Return the canonical form of what somebody typed; None if it is no code."""
    # IGNORECASE without this would fold the long s and the Kelvin sign into letters.
    if not typed.isascii() or not _TYPED.fullmatch(typed):
        return None
    return typed.lower().replace("-", "")


def canonical(shown: str) -> bytes:
    """Return the bytes that a shown code is hashed as."""
    return shown.replace("-", "").encode("ascii")


def _shown(raw: bytes) -> str:
    text = base64.b32encode(raw).decode("ascii").lower()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))
