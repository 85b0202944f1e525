"""Account ids."""

import re

from otpseal.errors import AccountIdRefused

_ID = re.compile(r"[a-z0-9][a-z0-9._@-]*(/[a-z0-9][a-z0-9._@-]*)*", re.ASCII)


def is_account_id(text: str) -> bool:
    return len(text) <= 128 and _ID.fullmatch(text) is not None


def parse_account_id(text: str) -> str:
    if not is_account_id(text):
        raise AccountIdRefused("bad id")
    return text


def is_prefix(text: str) -> bool:
    return text.endswith("/") and is_account_id(text[:-1])
