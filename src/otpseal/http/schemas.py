"""The classic API's part of the OpenAPI document.

The three calls are plain ASGI functions, which FastAPI does not see; a test compares
these paths with the routes.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field


class SealedSeed(BaseModel):
    """A seed sealed to the service's import key."""

    encrypted_seed: str = Field(
        min_length=1,
        description="Base64 of RSA-OAEP-SHA-256 over 64 hex characters; 684"
        " characters for RSA-4096.",
    )


class Stored(BaseModel):
    """The seed is kept."""

    status: Literal["ok"]


class CurrentCode(BaseModel):
    """The code of the current step."""

    code: str = Field(pattern="^[0-9]{6}$", examples=["031478"])
    valid_for: int = Field(ge=1, le=30, description="Seconds to the step's end.")


class SubmittedCode(BaseModel):
    """A code to be checked."""

    code: str = Field(
        min_length=1, description="Six ASCII digits.", examples=["031478"]
    )


class Verdict(BaseModel):
    """Whether the code was accepted; a code is accepted once."""

    valid: bool


class Refusal(BaseModel):
    """Why not, in static words."""

    error: str


class Health(BaseModel):
    """Whether the service is fit to work."""

    status: Literal["ok", "degraded"]
    reason: str | None = None


_MODELS: Final = (
    SealedSeed,
    Stored,
    CurrentCode,
    SubmittedCode,
    Verdict,
    Refusal,
)

_EVERY_CALL: Final = {
    401: "Unauthorized (token access)",
    403: "Host or Origin not allowed (open access)",
    404: "Classic access is off",
    405: "Wrong method",
    429: "Too many requests; Retry-After says when to come back",
    503: "Store unavailable",
}
_EVERY_BODY: Final = {
    400: "Malformed JSON, or the field is missing",
    413: "Request too large",
    415: "Content-Type is not application/json",
    422: "The body or the field is of the wrong type",
}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str,
    *,
    answer: type[BaseModel],
    body: type[BaseModel] | None = None,
    refusals: dict[int, str],
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": answer.__doc__, "content": _reference(answer)}
    }
    common = {**_EVERY_CALL, **(_EVERY_BODY if body else {})}
    for status, text in sorted({**common, **refusals}.items()):
        responses[str(status)] = {
            "description": text,
            "content": _reference(Refusal),
        }
    operation: dict[str, Any] = {
        "summary": summary,
        "tags": ["classic"],
        "security": [{}, {"bearer": []}],
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _reference(body)}
    return operation


def add_classic_paths(document: dict[str, Any]) -> None:
    """Add the three calls to an OpenAPI document."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in _MODELS:
        schemas[model.__name__] = model.model_json_schema()
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    unreadable = "Seed not decrypted yet, or Stored seed cannot be read"
    document["paths"] |= {
        "/decrypt-seed": {
            "post": _operation(
                "Open a sealed seed and keep it",
                answer=Stored,
                body=SealedSeed,
                refusals={
                    409: "A different seed is already stored",
                    500: "Decryption failed",
                },
            )
        },
        "/generate-2fa": {
            "get": _operation(
                "Return the current code",
                answer=CurrentCode,
                refusals={500: unreadable},
            )
        },
        "/verify-2fa": {
            "post": _operation(
                "Check a code; it is accepted once",
                answer=Verdict,
                body=SubmittedCode,
                refusals={
                    403: "Account disabled; Host or Origin not allowed",
                    429: "Too many attempts; Retry-After says how long",
                    500: unreadable,
                },
            )
        },
    }
