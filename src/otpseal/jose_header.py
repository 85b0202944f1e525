"""Protected headers of JOSE (RFC 7515, RFC 7516), read exactly.

Leaves out: which members and values a form has; that is the form's business.
"""

import binascii
import json
import re
from typing import Any, Final

from otpseal import base64url

#: Most certificates in an `x5c`.
MAX_CHAIN: Final = 4

_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def parse(part: bytes) -> dict[str, Any]:
    """Return a header.

    Raises:
        ValueError: it is none, or names a member twice.
    """
    try:
        text = base64url.decode(part).decode("utf-8")
        header = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(header, dict):
        raise ValueError("no object")  # noqa: TRY004 - one error for every cause
    return header


def is_kid(value: object) -> bool:
    """Tell whether this can be the RFC 7638 thumbprint of a key."""
    # By bytes: a lone surrogate that came through JSON must not reach a database.
    return isinstance(value, str) and _KID.fullmatch(value) is not None


def chain(header: dict[str, Any]) -> tuple[bytes, ...]:
    """Return the certificates of `x5c` in DER, the signer's first; () without it.

    Raises:
        ValueError: it has some, but not as they must be.
    """
    if "x5c" not in header:
        return ()
    texts = header["x5c"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_CHAIN:
        raise ValueError("too many certificates, or none")
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("a certificate is no text")
    return tuple(binascii.a2b_base64(text, strict_mode=True) for text in texts)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two members of one name another reader may believe the other one.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found
