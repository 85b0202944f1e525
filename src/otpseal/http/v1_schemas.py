"""The forms of the v1 API's requests and answers, for the OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ID_PATTERN = "^[a-z0-9][a-z0-9._@-]*(/[a-z0-9][a-z0-9._@-]*)*$"

_URI = (
    "otpauth://totp/Shop:alice%40shop.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    "&issuer=Shop&algorithm=SHA1&digits=6&period=30"
)
ACCOUNT_EXAMPLE = {
    "id": "shop/alice",
    "type": "totp",
    "algorithm": "SHA1",
    "digits": 6,
    "period": 30,
    "window": 1,
    "issuer": "Shop",
    "label": "alice@shop.example",
    "state": "active",
    "drift": 0,
    "created_at": "2026-11-23T07:24:05Z",
    "last_step": 59314127,
}
_NEW = {**ACCOUNT_EXAMPLE, "state": "pending", "last_step": None}
_EVENT = {
    "id": 7,
    "at": "2026-11-23T07:24:05.125Z",
    "kind": "attempt.accepted",
    "account": "shop/alice",
    "detail": {"caller": "c56045386b1", "step": 59314127},
    "genuine": True,
}
_SEALED = "q83vEjRWeJCrze8S... 684 characters for RSA-4096 ...=="

AccountId = Annotated[str, Field(pattern=ID_PATTERN, max_length=128)]
# As `totp.is_shown_name`; JSON carries no halves of surrogate pairs in UTF-8.
ShownName = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


def _form(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [*examples]})


class CodeAttempt(BaseModel):
    """A code and the account that it is meant for."""

    model_config = _form({"account": "shop/alice", "code": "031478"})

    account: str = Field(description="Any text: what is no account's id is unknown.")
    code: str = Field(description="6 to 8 ASCII digits; anything else is wrong.")


class RecoveryAttempt(BaseModel):
    """A recovery code and the account that it is meant for."""

    model_config = _form(
        {"account": "shop/alice", "recovery_code": "rrbv-7eol-xeyo-lvio"}
    )

    account: str = Field(description="Any text: what is no account's id is unknown.")
    recovery_code: str = Field(description="As it was shown; capitals are read too.")


class Accepted(BaseModel):
    """The code was right, for the first and last time."""

    model_config = _form({"valid": True, "step": 59314127})

    valid: Literal[True]
    step: int = Field(
        default=0,
        description="The step, or counter, that was spent; not for recovery codes.",
    )


class NotAccepted(BaseModel):
    """The code was not accepted."""

    model_config = _form(
        {"valid": False, "reason": "wrong"},
        {"valid": False, "reason": "throttled", "retry_after": 30},
    )

    valid: Literal[False]
    reason: Literal["wrong", "replayed", "throttled", "disabled"] = Field(
        description="Unknown accounts, and those of others, are answered as if the"
        " code were wrong. A pending account is disabled to all but `:confirm`."
    )
    retry_after: int = Field(
        default=1,
        ge=1,
        description="Seconds until an attempt is looked at again; only if throttled.",
    )


class _AnyNewAccount(BaseModel):
    id: AccountId
    type: Literal["totp", "hotp"] = "totp"
    algorithm: Literal["SHA1", "SHA256", "SHA512"] = "SHA1"
    digits: int = Field(6, ge=6, le=8)
    period: int = Field(30, ge=15, le=300, description="Seconds; for TOTP.")
    window: int = Field(1, ge=0, le=1, description="Steps to either side; for TOTP.")
    issuer: ShownName = Field("", description="Shown by authenticator apps.")
    label: ShownName = Field("", description="Shown by them too; else the id is.")
    counter: int = Field(0, ge=0, le=2**63 - 101, description="The next; for HOTP.")


class NewAccount(_AnyNewAccount):
    """An account whose seed the service makes; it waits for its first code."""

    model_config = _form(
        {"id": "shop/alice", "issuer": "Shop", "label": "alice@shop.example"}
    )

    seed_bytes: int = Field(20, ge=20, le=64, description="Length of the seed.")


class SealedAccount(_AnyNewAccount):
    """An account whose seed comes sealed to the import key; it is active at once."""

    model_config = _form({"id": "shop/alice", "sealed_seed": _SEALED})

    sealed_seed: str = Field(
        description="Base64 of RSA-OAEP-SHA-256 over 64 hex characters."
    )


class FirstCode(BaseModel):
    """The first code of a pending account."""

    model_config = _form({"code": "031478"})

    code: str


class TwoCodes(BaseModel):
    """Two codes that follow one another, the earlier first, both unused."""

    model_config = _form({"codes": ["031478", "902317"]})

    codes: list[str] = Field(min_length=2, max_length=2)


class NewSeed(BaseModel):
    """Which seed takes the old one's place; a new one if none is given."""

    model_config = _form({}, {"sealed_seed": _SEALED})

    sealed_seed: str = Field(default="", description="As for a new account.")


class Nothing(BaseModel):
    """An empty object, or nothing at all."""

    model_config = _form({})


class Account(BaseModel):
    """What is shown of an account; never its seed."""

    model_config = _form(ACCOUNT_EXAMPLE)

    id: AccountId
    type: Literal["totp", "hotp"]
    algorithm: Literal["SHA1", "SHA256", "SHA512"]
    digits: int
    period: int
    window: int
    issuer: str
    label: str
    state: Literal["pending", "active", "disabled"]
    drift: int = Field(description="Steps by which the device is ahead; -60 to 60.")
    created_at: str = Field(
        description="When the seed arrived.",
        json_schema_extra={"format": "date-time"},
    )
    last_step: int | None = Field(description="The last spent step, or counter.")


class EnrolledAccount(Account):
    """An account with its new seed, which is shown this once."""

    model_config = _form({**_NEW, "otpauth_uri": _URI, "qr_svg": "<svg ...</svg>"})

    otpauth_uri: str = Field(description="Holds the seed.")
    qr_svg: str = Field(description="The same as a QR code, a whole SVG image.")


class AccountPage(BaseModel):
    """Accounts in the order of their ids."""

    model_config = _form({"accounts": [ACCOUNT_EXAMPLE], "next_cursor": None})

    accounts: list[Account]
    next_cursor: str | None = Field(description="For the next page; null at the end.")


class RecoveryCodes(BaseModel):
    """Ten recovery codes, shown this once; earlier ones are void."""

    model_config = _form({"recovery_codes": ["rrbv-7eol-xeyo-lvio"]})

    recovery_codes: list[str]


class AccountCode(BaseModel):
    """The code of the current step."""

    model_config = _form({"code": "031478", "valid_for": 12})

    code: str = Field(pattern="^[0-9]{6,8}$")
    valid_for: int = Field(ge=1, le=300, description="Seconds to the step's end.")


class AuditEvent(BaseModel):
    """One row of the audit log."""

    model_config = _form(_EVENT)

    id: int
    at: str = Field(description="RFC 3339, to the millisecond.")
    kind: str
    account: str = Field(description="Empty for what concerns no account.")
    detail: dict[str, int | str] | str = Field(
        description="Numbers and words that belong to the kind; text as it stands if"
        " the row was altered."
    )
    genuine: bool = Field(description="False: the row was altered after it was written")


class EventPage(BaseModel):
    """Audit events, newest first.

    A page looks through at most 10,000 events, so that it may be short, or empty,
    although `next_cursor` leads on.
    """

    model_config = _form({"events": [_EVENT], "next_cursor": "Nw"})

    events: list[AuditEvent]
    next_cursor: str | None = Field(description="For the next page; null at the end.")


class ProblemDetails(BaseModel):
    """Why not, after RFC 9457."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:otpseal:problem:account_missing",
                    "title": "There is no such account",
                    "status": 404,
                    "code": "account_missing",
                }
            ]
        }
    )

    type: str = Field(description="`urn:otpseal:problem:` and the code.")
    title: str = Field(description="For people; belongs to the code.")
    status: int
    code: str = Field(description="For programs; never changes.")
    detail: str = Field(
        default="", description="More for people; static, never your input."
    )


MODELS = (
    CodeAttempt,
    RecoveryAttempt,
    Accepted,
    NotAccepted,
    NewAccount,
    SealedAccount,
    FirstCode,
    TwoCodes,
    NewSeed,
    Nothing,
    Account,
    EnrolledAccount,
    AccountPage,
    RecoveryCodes,
    AccountCode,
    AuditEvent,
    EventPage,
    ProblemDetails,
)
