"""How keys are named: RFC 7638 thumbprints with SHA-256, 43 base64url characters.

Where a URI has to name a key, it is that of RFC 9278 with this thumbprint in it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from otpseal import base64url

_URI: Final = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def kid_of(members: Mapping[str, str]) -> str:
    """Return the thumbprint of a JWK, of which these are the required members."""
    text = json.dumps(dict(members), sort_keys=True, separators=(",", ":"))
    return base64url.encode(hashlib.sha256(text.encode("ascii")).digest())


def is_kid(value: object) -> bool:
    """Tell whether this can be the thumbprint of a key."""
    # By bytes: a lone surrogate that came through JSON must not reach a database.
    return isinstance(value, str) and _KID.fullmatch(value) is not None


def uri_of(kid: str) -> str:
    """Return the URI of a key (RFC 9278 section 3)."""
    return _URI + kid


def kid_in(uri: str) -> str | None:
    """Return the thumbprint in such a URI, in its one spelling; None in any other."""
    kid = uri.removeprefix(_URI)
    return kid if kid != uri and is_kid(kid) else None
