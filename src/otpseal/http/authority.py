"""The authority's HTTP application: the classic protocol at the root path.

Subscribers' calls, `otpseal.http.authority_v1`, have paths of their own.

Its clients are scripts in the wild, which look at `status`, `encrypted_seed` and
`error` (CONTRACT "Authority"). Every refusal of a request's form is a 400 here, where
the service has finer statuses.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from otpseal import __version__
from otpseal.authority import Authority
from otpseal.enrolment import EnrolmentDesk
from otpseal.errors import (
    BindingConflict,
    CapacityReached,
    CertificateExpired,
    EnrolmentRefused,
    KeyRefused,
    OtpsealError,
    Overloaded,
    ReceiptRefused,
    RequestRefused,
    SeedUnreadable,
    StoreUnavailable,
)
from otpseal.http.authority_v1 import Call, SubscriberCalls
from otpseal.http.complaints import Complaints
from otpseal.http.housekeeping import keep_house
from otpseal.http.limits import WorkQueue
from otpseal.http.wire import (
    App,
    BadRequest,
    Disconnected,
    Receive,
    Refusal,
    Scope,
    Send,
    json_answer,
    read_json_object,
)

#: Health checks that may wait for the store; they do not queue behind requests.
WAITING_HEALTH_CHECKS: Final = 16

_INTERNAL: Final = Refusal(500, "Internal error")
_NOT_FOUND: Final = Refusal(404, "Not found")
_NO_TEXT: Final = Refusal(400, "public_key is not valid text")
_USAGE: Final = "POST student_id, github_repo_url and public_key (PEM) as JSON"
_USAGE_WITHOUT_CLASSIC: Final = "run `otpseal seed enrol` with a ticket"
_RETRY_SOON: Final = (b"retry-after", b"1")

_STATUSES: Final[dict[type[OtpsealError], int]] = {
    KeyRefused: 400,
    RequestRefused: 400,
    BindingConflict: 409,
    CapacityReached: 409,
    EnrolmentRefused: 403,
    ReceiptRefused: 403,
}
_ANSWERS: Final[dict[type[OtpsealError], Refusal]] = {
    Overloaded: Refusal(429, "Too many requests", _RETRY_SOON),
    StoreUnavailable: Refusal(503, "Store unavailable", _RETRY_SOON),
    CertificateExpired: Refusal(
        503, "The authority's signing certificate has expired: tell its operator"
    ),
    SeedUnreadable: Refusal(500, "Stored seed cannot be read"),
}

_log = logging.getLogger("otpseal.http")

Json = dict[str, Any]


def create_authority_app(
    authority: Authority,
    *,
    desk: Callable[[], EnrolmentDesk] | None = None,
    jwks: Callable[[], Mapping[str, Any]] | None = None,
    classic: bool = True,
    prune: Callable[[], object] | None = None,
) -> App:
    """Return the ASGI application of the authority.

    Args:
        authority: the use cases.
        desk: gives what answers subscribers; None if it has no signing key.
        jwks: gives its signing keys, for subscribers to pin.
        classic: whether classic requests are answered.
        prune: deletes old audit events; called at the start and then daily.
    """
    requests = WorkQueue()
    calls = None if desk is None else SubscriberCalls(desk, jwks or dict, requests)
    return _AuthorityApp(authority, requests, calls, classic=classic, prune=prune)


class _AuthorityApp:
    def __init__(
        self,
        authority: Authority,
        requests: WorkQueue,
        calls: SubscriberCalls | None,
        *,
        classic: bool,
        prune: Callable[[], object] | None,
    ) -> None:
        self._authority = authority
        self._prune = prune
        self._complaints = Complaints()
        self._requests = requests
        self._usage = _USAGE if classic else _USAGE_WITHOUT_CLASSIC
        root: dict[str, Call] = {"GET": self._tell, "HEAD": self._tell}
        if classic:
            root["POST"] = self._issue
        health: dict[str, Call] = {"GET": self._health, "HEAD": self._health}
        self._paths = {"/": root, "/health": health}
        if calls is not None:
            self._paths |= calls.paths
        self._health_checks = WorkQueue(at_a_time=1, waiting=WAITING_HEALTH_CHECKS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: Refusal
        try:
            content = await self._respond(scope, receive)
        except Disconnected:
            return
        except BadRequest as error:
            refusal = error.refusal
        except OtpsealError as error:
            if isinstance(
                error, CertificateExpired | SeedUnreadable | StoreUnavailable
            ):
                self._complaints.say("a seed request failed", error)
            refusal = _answer_to(error)
        except Exception as error:  # noqa: BLE001 - the one last resort
            # Without its message, which might hold what must not be logged.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("unexpected %s\n%s", type(error).__name__, frames)
            refusal = _INTERNAL
        else:
            await json_answer(content).send(scope, send)
            return
        body = {"status": "error", "error": refusal.text}
        await json_answer(body, *refusal.headers, status=refusal.status).send(
            scope, send
        )

    async def _respond(self, scope: Scope, receive: Receive) -> Json:
        methods = self._paths.get(scope["path"])
        if methods is None:
            raise BadRequest(_NOT_FOUND)
        if scope["method"] not in methods:
            allow = (b"allow", ", ".join(methods).encode("ascii"))
            raise BadRequest(Refusal(405, "Method not allowed", allow))
        return await methods[scope["method"]](scope, receive)

    async def _health(self, _scope: Scope, _receive: Receive) -> Json:
        await self._health_checks.run(self._authority.check_store)
        return {"status": "ok"}

    async def _tell(self, _scope: Scope, _receive: Receive) -> Json:
        return {
            "name": "otpseal authority",
            "version": __version__,
            "status": "ok",
            "usage": self._usage,
        }

    async def _issue(self, scope: Scope, receive: Receive) -> Json:
        try:
            body = await read_json_object(scope, receive)
        except BadRequest as error:
            raise BadRequest(Refusal(400, error.refusal.text)) from None
        student_id = _text(body, "student_id")
        github_repo_url = _text(body, "github_repo_url")
        try:
            public_key = _text(body, "public_key").encode("utf-8")
        except UnicodeEncodeError:
            raise BadRequest(_NO_TEXT) from None
        sealed = await self._requests.run(
            self._authority.issue, student_id, github_repo_url, public_key
        )
        return {
            "status": "success",
            "encrypted_seed": sealed,
            "message": "The seed is sealed to the public key of this request",
        }

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        housekeeping = asyncio.create_task(
            keep_house(self._authority.settle, prune=self._prune)
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        housekeeping.cancel()
        with suppress(asyncio.CancelledError):
            await housekeeping
        self._requests.close()
        self._health_checks.close()
        await send({"type": "lifespan.shutdown.complete"})


def _text(body: Json, field: str) -> str:
    value = body.get(field)
    if value is None or value == "":
        raise BadRequest(Refusal(400, f"Missing {field}"))
    if not isinstance(value, str):
        raise BadRequest(Refusal(400, f"{field} must be a string"))
    return value


def _answer_to(error: OtpsealError) -> Refusal:
    for kind in type(error).__mro__:
        if kind in _STATUSES:
            # These messages are for the subscriber, and hold nothing of his input.
            return Refusal(_STATUSES[kind], str(error))
        if kind in _ANSWERS:
            return _ANSWERS[kind]
    return _INTERNAL
