"""Protected headers of JOSE (RFC 7515, RFC 7516), read exactly.

Leaves out: which members and values a form has; that is the form's business.
"""

import binascii
from typing import Any, Final

from otpseal import base64url, strict_json

#: Most certificates in an `x5c`.
MAX_CHAIN: Final = 4


def parse(part: bytes) -> dict[str, Any]:
    """Return a header.

    Raises:
        ValueError: it is none, or names a member twice.
    """
    return strict_json.parse_object(base64url.decode(part))


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
