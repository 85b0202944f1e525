"""How keys are named: RFC 7638 thumbprints with SHA-256, 43 base64url characters."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from otpseal import base64url

_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def kid_of(members: Mapping[str, str]) -> str:
    """Return the thumbprint of a JWK, of which these are the required members."""
    text = json.dumps(dict(members), sort_keys=True, separators=(",", ":"))
    return base64url.encode(hashlib.sha256(text.encode("ascii")).digest())


def is_kid(value: object) -> bool:
    """Tell whether this can be the thumbprint of a key."""
    # By bytes: a lone surrogate that came through JSON must not reach a database.
    return isinstance(value, str) and _KID.fullmatch(value) is not None
