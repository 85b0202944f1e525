"""The v1 API's part of the OpenAPI document; a test compares it with the routes."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from otpseal.http import v1_envelope_forms as envelope_forms
from otpseal.http import v1_schemas as forms
from otpseal.http.v1_schemas import ProblemDetails

_REFERENCE: Final = "#/components/schemas/{model}"

#: Status -> codes, for every call.
_EVERY_CALL: Final = {
    401: "unauthenticated",
    403: "forbidden; or Host or Origin not allowed (open classic access)",
    405: "method_not_allowed",
    429: "overloaded; Retry-After says when to come back",
    500: "internal, seed_unreadable",
    503: "store_unavailable, clock_behind; Retry-After says when to come back",
}
_EVERY_BODY: Final = {
    400: "malformed_json",
    413: "too_large",
    415: "unsupported_media_type",
    422: "malformed",
}
_MISSING: Final = {404: "account_missing"}
_DIGEST: Final = {
    "name": "digest",
    "in": "path",
    "required": True,
    "description": "SHA-256 of the envelope's text, in base64url without padding.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
    "example": envelope_forms.DIGEST_EXAMPLE,
}
_EXHAUSTED: Final = {
    429: "overloaded, too_many_unknown_accounts; Retry-After says when to come back"
}
_QUERY: Final = {422: "malformed"}

_ACCOUNT_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "An account's id; its slashes may stand as they are, or as %2F.",
    "schema": {"type": "string", "pattern": forms.ID_PATTERN, "maxLength": 128},
    "example": "shop/alice",
}

#: For attempts: what is no account's id is answered like an unknown account.
_ANY_ID: Final = {**_ACCOUNT_ID, "schema": {"type": "string", "minLength": 1}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _json(*models: type[BaseModel], kind: str = "application/json") -> dict[str, Any]:
    schemas = [_schema(model) for model in models]
    examples = {
        f"{model.__name__}{number or ''}": {"value": example}
        for model in models
        for number, example in enumerate(_examples(model))
    }
    form = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    content: dict[str, Any] = {"schema": form}
    if examples:
        content["examples"] = examples
    return {kind: content}


def _examples(model: type[BaseModel]) -> list[Any]:
    extra = model.model_config.get("json_schema_extra")
    examples = extra.get("examples", []) if isinstance(extra, dict) else []
    return examples if isinstance(examples, list) else []


def _call(
    summary: str,
    scope: str,
    *answers: type[BaseModel],
    body: tuple[type[BaseModel], ...] = (),
    status: int = 200,
    refusals: dict[int, str] | None = None,
    parameters: tuple[dict[str, Any], ...] = (),
    more: str = "",
) -> dict[str, Any]:
    done: dict[str, Any] = {"description": summary}
    if answers:
        done |= {"description": answers[0].__doc__, "content": _json(*answers)}
    responses: dict[str, Any] = {str(status): done}
    refused = _EVERY_CALL | (_EVERY_BODY if body else {}) | (refusals or {})
    for number, text in sorted(refused.items()):
        content = _json(ProblemDetails, kind="application/problem+json")
        if number == 403:  # noqa: PLR2004 - HTTP's own; the guard's has another form
            content["application/json"] = {"schema": {"type": "object"}}
        responses[str(number)] = {"description": text, "content": content}
    operation: dict[str, Any] = {
        "summary": summary,
        "description": f"Needs the scope `{scope}`. {more}".strip(),
        "tags": ["v1"],
        "security": [{"token": []}, {"certificate": []}],
        "responses": responses,
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body:
        operation["requestBody"] = {"required": True, "content": _json(*body)}
    return operation


def _parameter(name: str, description: str, **schema: object) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": schema,
    }


def _limit(most: int) -> dict[str, Any]:
    return _parameter(
        "limit", "Most in one page.", type="integer", minimum=1, maximum=most
    )


_CURSOR: Final = _parameter(
    "cursor", "The `next_cursor` of the page before.", type="string"
)
_VERDICT: Final = (forms.Accepted, forms.NotAccepted)


def _attempts() -> dict[str, Any]:
    pending = {**_EXHAUSTED, 409: "account_not_pending"}
    return {
        "/v1/verify": {
            "post": _call(
                "Check a code; it is accepted once",
                "verify",
                *_VERDICT,
                body=(forms.CodeAttempt,),
                refusals=_EXHAUSTED,
            )
        },
        "/v1/recover": {
            "post": _call(
                "Check a recovery code; it is accepted once",
                "verify",
                *_VERDICT,
                body=(forms.RecoveryAttempt,),
                refusals=_EXHAUSTED,
                more="The current and the next code are spent with it.",
            )
        },
        "/v1/accounts/{id}:confirm": {
            "post": _call(
                "Confirm a pending account by its first code",
                "accounts",
                *_VERDICT,
                body=(forms.FirstCode,),
                refusals=pending,
                parameters=(_ANY_ID,),
            )
        },
        "/v1/accounts/{id}:resync": {
            "post": _call(
                "Follow a device whose clock, or counter, is off",
                "accounts",
                *_VERDICT,
                body=(forms.TwoCodes,),
                refusals=_EXHAUSTED,
                parameters=(_ANY_ID,),
            )
        },
    }


def _envelopes() -> dict[str, Any]:
    return {
        "/v1/envelopes": {
            "post": _call(
                "Bring a seed that an authority sealed and signed",
                "import",
                envelope_forms.BroughtEnvelope,
                body=(envelope_forms.Envelope,),
                refusals={
                    403: "forbidden, suite_refused",
                    409: "account_exists, seed_conflict, envelope_replayed,"
                    " envelope_stale",
                    422: "malformed, envelope_refused, envelope_expired,"
                    " envelope_misdirected, claims_refused",
                },
                more="The authority must be pinned: `otpseal authority trust add`.",
            ),
        },
        "/v1/receipts/{digest}": {
            "get": _call(
                "Return the receipt of an accepted envelope again",
                "import",
                envelope_forms.RecalledReceipt,
                refusals={404: "receipt_missing"},
                parameters=(_DIGEST,),
                more="For whose answer to `POST /v1/envelopes` was lost. It is kept"
                " until a day after the envelope's end.",
            )
        },
    }


def _books() -> dict[str, Any]:
    refused = "malformed, parameters_refused, account_id_refused, unseal_failed"
    return {
        "/v1/accounts": {
            "get": _call(
                "List accounts",
                "accounts",
                forms.AccountPage,
                refusals=_QUERY,
                parameters=(_limit(200), _CURSOR),
            ),
            "post": _call(
                "Make an account",
                "accounts",
                forms.EnrolledAccount,
                forms.Account,
                body=(forms.NewAccount, forms.SealedAccount),
                status=201,
                refusals={409: "account_exists, seed_conflict", 422: refused},
                more="With `sealed_seed` it needs the scope `import`.",
            ),
        },
        "/v1/accounts/{id}": {
            "get": _call(
                "Show an account",
                "accounts",
                forms.Account,
                refusals=_MISSING,
                parameters=(_ACCOUNT_ID,),
            ),
            "delete": _call(
                "Delete an account and its seed",
                "admin",
                status=204,
                refusals=_MISSING,
                parameters=(_ACCOUNT_ID,),
            ),
        },
        "/v1/accounts/{id}:replace": {
            "post": _call(
                "Put another seed in the place of an account's",
                "admin",
                forms.EnrolledAccount,
                forms.Account,
                body=(forms.NewSeed,),
                refusals={
                    **_MISSING,
                    409: "seed_conflict",
                    422: "malformed, unseal_failed",
                },
                parameters=(_ACCOUNT_ID,),
            )
        },
    }


def _verbs() -> dict[str, Any]:
    def post(summary: str, answer: type[BaseModel]) -> dict[str, Any]:
        body, parameters = (forms.Nothing,), (_ACCOUNT_ID,)
        return {
            "post": _call(
                summary,
                "accounts",
                answer,
                body=body,
                refusals=_MISSING,
                parameters=parameters,
            )
        }

    return {
        "/v1/accounts/{id}:enable": post(
            "Enable an account and reset its throttle", forms.Account
        ),
        "/v1/accounts/{id}:disable": post(
            "Refuse all codes of an account", forms.Account
        ),
        "/v1/accounts/{id}:recovery-codes": post(
            "Make ten recovery codes", forms.RecoveryCodes
        ),
        "/v1/accounts/{id}:code": {
            "get": _call(
                "Return the current code; asking never spends it",
                "code",
                forms.AccountCode,
                refusals={**_MISSING, 422: "parameters_refused: it counts (HOTP)"},
                parameters=(_ACCOUNT_ID,),
            )
        },
    }


def _events() -> dict[str, Any]:
    return {
        "/v1/events": {
            "get": _call(
                "List audit events, newest first",
                "audit",
                forms.EventPage,
                refusals=_QUERY,
                parameters=(
                    _parameter("account", "Of this account alone.", type="string"),
                    _parameter("kind", "Of this kind alone.", type="string"),
                    _parameter(
                        "since", "Not before.", type="string", format="date-time"
                    ),
                    _parameter("until", "Before.", type="string", format="date-time"),
                    _limit(200),
                    _CURSOR,
                ),
                more="A caller with a prefix sees the events of accounts inside it.",
            )
        }
    }


def add_v1_paths(document: dict[str, Any]) -> None:
    """Add the calls to an OpenAPI document."""
    components = document.setdefault("components", {})
    _, made = models_json_schema(
        [(model, "validation") for model in (*forms.MODELS, *envelope_forms.MODELS)],
        ref_template=_REFERENCE,
    )
    components.setdefault("schemas", {}).update(made["$defs"])
    components.setdefault("securitySchemes", {}).update(
        token={"type": "http", "scheme": "bearer", "bearerFormat": "otpseal_..."},
        certificate={"type": "mutualTLS"},
    )
    document["paths"] |= {
        **_attempts(),
        **_envelopes(),
        **_books(),
        **_verbs(),
        **_events(),
    }
