"""The forms of envelopes and receipts, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from otpseal.http.v1_schemas import ACCOUNT_EXAMPLE, Account, AccountId
from otpseal.signed_envelope import MAX_ENVELOPE_CHARS

#: SHA-256 of the example's envelope.
DIGEST_EXAMPLE = "KcTQ7XIkYUAc8ij1PCC1oVJSPjV6Cbh8GfnNE7WZrAc"
_RECEIPT = "eyJhbGciOiJFZDI1NTE5Iiwi... a JWS of some 900 characters ..."

_BROUGHT: dict[str, Any] = {
    "account": {**ACCOUNT_EXAMPLE, "last_step": None},
    "new": True,
    "authority": "hq",
    "suite": "v1",
    "receipt": _RECEIPT,
}


class Envelope(BaseModel):
    """An envelope by an authority that this service has pinned."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"envelope": "eyJhbGciOiJSU0EtT0FFUC0yNTYi"}]},
    )

    envelope: str = Field(
        description=f"At most {MAX_ENVELOPE_CHARS} characters, see docs/protocol.md."
    )


class BroughtEnvelope(BaseModel):
    """The account, and a receipt for the authority: the right seed arrived."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [_BROUGHT]}
    )

    account: Account
    new: bool = Field(description="Whether it was made; else its seed was replaced.")
    authority: str = Field(description="Who sealed the seed.")
    suite: Literal["v1", "pq"]
    receipt: str = Field(description="A JWS in compact form, see docs/protocol.md.")


class RecalledReceipt(BaseModel):
    """The receipt of an envelope that was accepted, as it was answered then."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "account": "shop/alice",
                    "authority": "hq",
                    "receipt": _RECEIPT,
                    "has_seed": True,
                }
            ]
        },
    )

    account: AccountId
    authority: str = Field(description="Who sealed the seed.")
    receipt: str = Field(description="A JWS in compact form, see docs/protocol.md.")
    has_seed: bool = Field(
        description="Whether the account has the seed of that envelope still."
    )


MODELS = (Envelope, BroughtEnvelope, RecalledReceipt)
