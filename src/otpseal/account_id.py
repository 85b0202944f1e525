"""Account ids: which text is one, and which ids a prefix fences in.

An id is compared byte by byte, everywhere, and text outside the rule is refused and
never folded: an id that has two spellings has two throttles.

Leaves out: whether the account exists, and whether an id is taken.
"""

import re
from typing import Final

from otpseal.errors import AccountIdRefused

#: Longest id, in characters (all of them ASCII, so in bytes too).
MAX_CHARS: Final = 128

# No part is empty or begins with a dot, so `..` and `//` are no ids.
_ID: Final = re.compile(
    r"[a-z0-9][a-z0-9._@-]*(/[a-z0-9][a-z0-9._@-]*)*",
    re.ASCII,
)
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._@-]+", re.ASCII)
_DASHES: Final = re.compile(r"-{2,}", re.ASCII)


def is_account_id(text: str) -> bool:
    """Tell whether `text` is an account id."""
    return len(text) <= MAX_CHARS and _ID.fullmatch(text) is not None


def parse_account_id(text: str) -> str:
    """Return `text` if it is an account id.

    Raises:
        AccountIdRefused: it is none; nothing is folded to make it one.
    """
    if not is_account_id(text):
        raise AccountIdRefused
    return text


def is_prefix(text: str) -> bool:
    """Tell whether `text` can fence a tenant: an id followed by `/`."""
    return text.endswith("/") and is_account_id(text[:-1])


def within(account: str, prefix: str) -> bool:
    """Tell whether `account` lies behind the fence of `prefix`.

    Args:
        account: an account id.
        prefix: "" for no fence, so that every account is within; otherwise see
            `is_prefix`. Any other text encloses nothing.
    """
    # Without the slash, `shop` would let its caller into `shop2/...`.
    return not prefix or (is_prefix(prefix) and account.startswith(prefix))


def propose(issuer: str, label: str) -> str | None:
    """Return an id made from issuer and label, or None if they give none.

    Deterministic: ASCII letters in lower case, digits and . _ @ - are kept, every run
    of other characters becomes one dash; then "issuer/label", or the one that is
    left. None if nothing is left, or more than `MAX_CHARS`: cutting would make two
    accounts one. Different names may give one id; the caller has to look for that.
    """
    text = "/".join(part for part in map(_part, (issuer, label)) if part)
    return text if is_account_id(text) else None


def _part(text: str) -> str:
    # First replaced, then lowered: the Kelvin sign's lower case is an ASCII k.
    dashed = _DASHES.sub("-", _UNFIT.sub("-", text)).lower()
    return dashed.lstrip("._@-").rstrip("-")
