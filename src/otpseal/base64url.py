"""Base64url without padding (RFC 7515 section 2), each value in its one spelling."""

import base64


def encode(raw: bytes) -> str:
    """Return the text that stands for `raw`."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str | bytes) -> bytes:
    """Return what `text` stands for.

    Raises:
        ValueError: padding, another alphabet, white space, bits that say nothing:
            whatever `encode` does not write.
    """
    given = text.encode("ascii") if isinstance(text, str) else text
    padded = given + b"=" * (-len(given) % 4)
    raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    # Else a second text of the same bytes would pass for another envelope.
    if encode(raw).encode("ascii") != given:
        raise ValueError("not canonical base64url")
    return raw
