"""One table from error to answer, for the v1 API: problem details of RFC 9457.

`code`, and `type` made of it, are for programs and never change; `title` belongs to
the code. A `detail` is our own static text: nothing of the request and nothing of the
store goes out.
"""

from typing import Final

from otpseal.errors import (
    AccountExists,
    AccountIdRefused,
    AccountMissing,
    AccountNotPending,
    AuthorityUnusable,
    BackupRefused,
    CallerExhausted,
    CallerMissing,
    CallerRefused,
    ClaimsRefused,
    ClockBehind,
    CodeLogUnwritable,
    ConfigurationError,
    EnrolmentRefused,
    EnvelopeExpired,
    EnvelopeMisdirected,
    EnvelopeRefused,
    EnvelopeReplayed,
    EnvelopeStale,
    FileRefused,
    Forbidden,
    KeyRefused,
    KeyUnavailable,
    MoveRefused,
    OtpsealError,
    Overloaded,
    ParametersRefused,
    PinMissing,
    PinRefused,
    ProofRefused,
    ReceiptMissing,
    ReceiptRefused,
    RequestRefused,
    SeedConflict,
    SeedMissing,
    SeedUnreadable,
    StoreUnavailable,
    SubscriberRefused,
    SuiteRefused,
    Unauthenticated,
    UnsealFailed,
)
from otpseal.http import wire
from otpseal.http.wire import Answer, Refusal

PROBLEM_TYPE: Final = b"application/problem+json"
_URN: Final = "urn:otpseal:problem:"

Header = tuple[bytes, bytes]


class Problem:
    """What the v1 API says instead of doing what was asked.

    Args:
        status: HTTP status.
        code: for programs.
        title: for people.
        headers: further headers.
        detail: more for people; never a piece of the request.
    """

    __slots__ = ("_headers", "answer", "code", "status", "title")

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        *headers: Header,
        detail: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.title = title
        self._headers = headers
        self.answer = self._answer(detail)

    def _answer(self, detail: str | None) -> Answer:
        content: dict[str, str | int] = {
            "type": _URN + self.code,
            "title": self.title,
            "status": self.status,
            "code": self.code,
        }
        if detail is not None:
            content["detail"] = detail
        return wire.json_answer(
            content, *self._headers, status=self.status, kind=PROBLEM_TYPE
        )

    def saying(self, detail: str) -> "Problem":
        """Return the same with a detail."""
        return Problem(
            self.status, self.code, self.title, *self._headers, detail=detail
        )


class Refused(Exception):  # noqa: N818 - it names the answer, as statuses do
    """A request is refused before it reaches a use case. Raised anew each time."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def _retry_after(seconds: int) -> Header:
    return b"retry-after", b"%d" % seconds


def _own(
    kind: type[OtpsealError], status: int, title: str, *headers: Header
) -> Problem:
    return Problem(status, kind.code, title, *headers)


INTERNAL: Final = Problem(500, "internal", "Internal error")
NOT_FOUND: Final = Problem(404, "not_found", "There is no such call")
METHOD: Final = Problem(405, "method_not_allowed", "Method not allowed")
#: A field or a query parameter is missing, unknown, repeated or of the wrong type.
MALFORMED: Final = Problem(422, "malformed", "The request is malformed")
UNAUTHENTICATED: Final = _own(
    Unauthenticated,
    401,
    "Unauthorized",
    (b"www-authenticate", b"Bearer"),
)

_PROBLEMS: Final[dict[type[OtpsealError], Problem]] = {
    Unauthenticated: UNAUTHENTICATED,
    Forbidden: _own(Forbidden, 403, "Not allowed to this caller"),
    AccountMissing: _own(AccountMissing, 404, "There is no such account"),
    ReceiptMissing: _own(ReceiptMissing, 404, "There is no such receipt"),
    AccountExists: _own(AccountExists, 409, "There is an account of this id"),
    SeedConflict: _own(SeedConflict, 409, "An account has this seed already"),
    AccountNotPending: _own(AccountNotPending, 409, "The account is not pending"),
    UnsealFailed: _own(UnsealFailed, 422, "The sealed seed does not open"),
    SuiteRefused: _own(SuiteRefused, 403, "Sealed seeds of this form are off"),
    EnvelopeRefused: _own(EnvelopeRefused, 422, "The envelope is refused"),
    ClaimsRefused: _own(ClaimsRefused, 422, "The envelope's claims are malformed"),
    EnvelopeReplayed: _own(EnvelopeReplayed, 409, "The envelope came before"),
    EnvelopeStale: _own(EnvelopeStale, 409, "A later envelope was accepted"),
    EnvelopeExpired: _own(EnvelopeExpired, 422, "The envelope is not valid now"),
    EnvelopeMisdirected: _own(
        EnvelopeMisdirected, 422, "The envelope is for another service or account"
    ),
    ParametersRefused: _own(ParametersRefused, 422, "A parameter is out of range"),
    AccountIdRefused: _own(AccountIdRefused, 422, "This cannot be an account's id"),
    Overloaded: _own(Overloaded, 429, "Too many requests", _retry_after(1)),
    CallerExhausted: _own(
        CallerExhausted,
        429,
        "Too many unknown accounts",
        _retry_after(CallerExhausted().retry_after_s),
    ),
    SeedUnreadable: _own(SeedUnreadable, 500, "The stored seed cannot be read"),
    StoreUnavailable: _own(StoreUnavailable, 503, "Store unavailable", _retry_after(1)),
    ClockBehind: _own(
        ClockBehind, 503, "The service's clock cannot be trusted", _retry_after(5)
    ),
    # No v1 call raises these; if one does, that is a fault of ours.
    SeedMissing: INTERNAL,
    ConfigurationError: INTERNAL,
    KeyRefused: INTERNAL,
    KeyUnavailable: INTERNAL,
    CallerRefused: INTERNAL,
    CallerMissing: INTERNAL,
    PinRefused: INTERNAL,
    PinMissing: INTERNAL,
    CodeLogUnwritable: INTERNAL,
    ProofRefused: INTERNAL,
    ReceiptRefused: INTERNAL,
    EnrolmentRefused: INTERNAL,
    SubscriberRefused: INTERNAL,
    RequestRefused: INTERNAL,
    AuthorityUnusable: INTERNAL,
    FileRefused: INTERNAL,
    MoveRefused: INTERNAL,
    BackupRefused: INTERNAL,
}

#: Whose own text tells the caller what to do. It is static, or holds the caller's own
#: prefix; a store's text may hold a path.
_TOLD: Final = (Forbidden, ParametersRefused, AccountIdRefused)

_OF_WIRE: Final[dict[Refusal, Problem]] = {
    wire.MALFORMED: Problem(400, "malformed_json", "Malformed JSON"),
    wire.TOO_LARGE: Problem(413, "too_large", "Request too large"),
    wire.WRONG_TYPE: Problem(
        415, "unsupported_media_type", "Content-Type must be application/json"
    ),
    wire.NOT_AN_OBJECT: MALFORMED.saying("The body must be a JSON object"),
}


def problem_of(error: OtpsealError) -> Problem:
    """Return the answer to a deliberate error; 500 for those not meant for HTTP."""
    for kind in type(error).__mro__:
        if kind in _PROBLEMS:
            problem = _PROBLEMS[kind]
            return problem.saying(str(error)) if kind in _TOLD else problem
    return INTERNAL


def problem_of_refusal(refusal: Refusal) -> Problem:
    """Return the answer to a body that `otpseal.http.wire` refused."""
    return _OF_WIRE[refusal]


def malformed(detail: str) -> Refused:
    """Return what to raise for a malformed request; `detail` is a static text."""
    return Refused(MALFORMED.saying(detail))
