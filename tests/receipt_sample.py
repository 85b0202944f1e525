"""One receipt with fixed inputs, as the checked-in vector has it."""

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otpseal import receipt
from otpseal.public_jwk import thumbprint
from otpseal.secret import Secret

VECTOR = Path(__file__).parent / "vectors" / "receipt_v1.json"


@dataclass(frozen=True)
class SampleClaims:
    """The claims that a receipt speaks about."""

    account: str
    seed: Secret
    nonce: bytes


@dataclass(frozen=True)
class SampleOpened:
    """An envelope that was opened."""

    digest: bytes
    claims: SampleClaims


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KID = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
SERVICE_NONCE = bytes(range(16, 32))
SENT = receipt.Delivery(
    digest=bytes(range(64, 96)),
    account="shop/anna",
    kid=KID,
    nonce=bytes(range(16)),
    seed=Secret(bytes(range(100, 132))),
)
NOW = 1_800_000_000.5
EVENT = 17


def made(
    sent: receipt.Delivery = SENT,
    *,
    event: int = EVENT,
    service_nonce: bytes = SERVICE_NONCE,
    key: Ed25519PrivateKey = KEY,
) -> str:
    """Make the receipt of `sent`."""
    claims = SampleClaims(sent.account, sent.seed, sent.nonce)
    return receipt.make(
        SampleOpened(sent.digest, claims),
        kid=sent.kid,
        event=event,
        service_nonce=service_nonce,
        signing_kid=thumbprint(key.public_key()),
        key=key,
        now=NOW,
    )


def other(**changes: Any) -> receipt.Delivery:  # noqa: ANN401 - any field
    """Return `SENT` but for some fields."""
    return replace(SENT, **changes)


def vector() -> dict[str, Any]:
    """Return the vector anew, as `python tests/receipt_sample.py` writes it."""
    return {
        "note": "docs/protocol.md, section 12; written by receipt_sample.py",
        "private_key": KEY.private_bytes_raw().hex(),
        "public_key": KEY.public_key().public_bytes_raw().hex(),
        "seed": SENT.seed.reveal().hex(),
        "envelope_sha256": SENT.digest.hex(),
        "account": SENT.account,
        "kid": SENT.kid,
        "nonce": SENT.nonce.hex(),
        "service_nonce": SERVICE_NONCE.hex(),
        "event": EVENT,
        "mac": receipt.confirmation(SENT, SERVICE_NONCE).hex(),
        "receipt": made(),
    }


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and payload of a JWS."""
    header, payload, _ = text.split(".")
    return json.loads(unbase64(header)), json.loads(unbase64(payload))


def unbase64(text: str) -> bytes:
    """Decode base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base64url(raw: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: object, payload: object, *, key: Ed25519PrivateKey = KEY) -> str:
    """Sign whatever it is: by hand, so that every wrong thing can be made."""
    texts = [
        part if isinstance(part, bytes) else json.dumps(part).encode()
        for part in (header, payload)
    ]
    signing_input = ".".join(map(base64url, texts))
    return f"{signing_input}.{base64url(key.sign(signing_input.encode()))}"


if __name__ == "__main__":
    VECTOR.write_text(json.dumps(vector(), indent=2) + "\n")
