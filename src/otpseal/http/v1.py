"""The v1 API: who calls, what is called, and every error's answer.

Plain ASGI like the classic API, and for the same reason: `POST /v1/verify` is what the
service does all day. Account ids contain slashes but never a colon, so that what is
done to an account stands behind one: `POST /v1/accounts/shop/alice:confirm`.

Here are the calls that decide about codes; all of them go by the committer's one
write path. The others are in `otpseal.http.v1_accounts` and `otpseal.http.v1_events`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from otpseal import recovery
from otpseal.attempt import Purpose
from otpseal.committer import Committer
from otpseal.errors import (
    ClockBehind,
    OtpsealError,
    SeedUnreadable,
    StoreUnavailable,
)
from otpseal.http import credentials
from otpseal.http.access_log import ROUTE
from otpseal.http.bridge import Bridge
from otpseal.http.complaints import Complaints
from otpseal.http.limits import WorkQueue
from otpseal.http.v1_fields import Fields, two_texts
from otpseal.http.v1_problems import (
    METHOD,
    NOT_FOUND,
    Problem,
    Refused,
    problem_of,
    problem_of_refusal,
)
from otpseal.http.wire import (
    MAX_BODY_BYTES,
    Answer,
    BadRequest,
    Receive,
    Scope,
    Send,
    json_answer,
    read_json_object,
)
from otpseal.service import Attempt, Service
from otpseal.verification import Decision, Outcome

PREFIX: Final = "/v1/"
_ACCOUNTS: Final = "/v1/accounts/"
_ONE: Final = "/v1/accounts/{id}"
_RECEIPTS: Final = "/v1/receipts/"
_ONE_RECEIPT: Final = "/v1/receipts/{digest}"

_WRONG: Final = json_answer({"valid": False, "reason": "wrong"})
_REFUSALS: Final = {
    Outcome.WRONG: _WRONG,
    # What does not count must not look different, or its cost would.
    Outcome.MALFORMED: _WRONG,
    Outcome.REPLAYED: json_answer({"valid": False, "reason": "replayed"}),
    Outcome.DISABLED: json_answer({"valid": False, "reason": "disabled"}),
}

#: A text that is no code: refused as wrong, costs nothing and leaves no trace.
_NO_CODE: Final = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller presented something well-formed.

    Attributes:
        scope: of ASGI.
        receive: of ASGI.
        credential: the digest of what was presented.
        named: the account's id in the path, or the digest that a receipt is found by,
            well-formed or not; else empty.
    """

    scope: Scope
    receive: Receive
    credential: bytes = field(repr=False)
    named: str = ""

    async def body(self, *, max_bytes: int = MAX_BODY_BYTES) -> dict[str, Any]:
        """Return the body's members; white space alone is no JSON here.

        Raises:
            BadRequest, Disconnected: as `wire.read_json_object`.
        """
        return await read_json_object(
            self.scope, self.receive, max_bytes=max_bytes, blanks_are_none=False
        )

    async def fields(self) -> Fields:
        """Return the body's fields; raises as `body`."""
        return Fields(await self.body())


Handler = Callable[[Call], Awaitable[Answer]]
#: Path, or verb behind the colon -> method -> handler.
Routes = Mapping[str, Mapping[str, Handler]]


class V1Api:
    """Finds the call that is meant, and the caller's credential, and answers.

    Args:
        service: the use cases.
        committer: decides attempts in batches.
        work: runs what waits for the store, in threads.
        paths: further calls, by path.
        one: the calls on an account itself, by method.
        verbs: further calls on one account, by what stands behind the colon.
        receipts: the calls on one receipt, by method.
        refused: told the code of every problem, for the metrics.
    """

    def __init__(
        self,
        service: Service,
        *,
        committer: Committer,
        work: WorkQueue,
        paths: Routes,
        one: Mapping[str, Handler],
        verbs: Routes,
        receipts: Mapping[str, Handler],
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._refused = refused
        self._service = service
        self._committer = committer
        self._work = work
        self._bridge = Bridge()
        self._complaints = Complaints()
        self.paths: Routes = {
            "/v1/verify": {"POST": self.verify},
            "/v1/recover": {"POST": self.recover},
            **paths,
        }
        self.one = one
        self.receipts = receipts
        self.verbs: Routes = {
            "confirm": {"POST": self.confirm},
            "resync": {"POST": self.resync},
            **verbs,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path that begins with `PREFIX`."""
        route = PREFIX
        try:
            handler, named, route = self._find(scope["path"], scope["method"])
            scope[ROUTE] = route
            found = credentials.presented(scope)
            if len(found) == 1:
                credential = found[0]
            else:
                pick = credentials.first_known
                credential = await self._work.run(pick, self._service, found)
            answer = await handler(Call(scope, receive, credential, named))
        except Refused as error:
            answer = self._refuse(error.problem)
        except BadRequest as error:
            answer = self._refuse(problem_of_refusal(error.refusal))
        except OtpsealError as error:
            if isinstance(error, ClockBehind | SeedUnreadable | StoreUnavailable):
                self._complaints.say(route, error)
            answer = self._refuse(problem_of(error))
        await answer.send(scope, send)

    def _refuse(self, problem: Problem) -> Answer:
        self._refused(problem.code)
        return problem.answer

    def _find(self, path: str, method: str) -> tuple[Handler, str, str]:
        """Return what is called, what the path names, and the route."""
        named, route = "", path
        calls = self.paths.get(path)
        if calls is None and path.startswith(_ACCOUNTS):
            rest = path.removeprefix(_ACCOUNTS)
            named, colon, verb = rest.rpartition(":")
            if not colon:
                named, calls, route = rest, self.one, _ONE
            else:
                calls, route = self.verbs.get(verb), f"{_ONE}:{verb}"
        elif calls is None and path.startswith(_RECEIPTS):
            named, calls = path.removeprefix(_RECEIPTS), self.receipts
            route = _ONE_RECEIPT
        if calls is None:
            raise Refused(NOT_FOUND)
        handler = calls.get(method)
        if handler is None:
            raise Refused(_not_allowed(", ".join(calls)))
        return handler, named, route

    async def verify(self, call: Call) -> Answer:
        """`POST /v1/verify {"account", "code"}`: decide about a code."""
        body = await call.body()
        account, code = two_texts(body, "account", "code")
        return await self._decide(Attempt(code, account, call.credential))

    async def recover(self, call: Call) -> Answer:
        """`POST /v1/recover {"account", "recovery_code"}`: use a recovery code up."""
        body = await call.body()
        account, typed = two_texts(body, "account", "recovery_code")
        code = recovery.parse(typed)
        if code is None:
            # As with codes, what cannot be one costs nothing; but the caller is looked
            # at, and a disabled account says so.
            return await self._decide(Attempt(_NO_CODE, account, call.credential))
        purpose = Purpose.RECOVER
        return await self._decide(
            Attempt(code, account, call.credential, purpose=purpose)
        )

    async def confirm(self, call: Call) -> Answer:
        """`POST /v1/accounts/{id}:confirm {"code"}`: the first code."""
        fields = await call.fields()
        code = fields.text("code")
        fields.end()
        purpose = Purpose.CONFIRM
        return await self._decide(
            Attempt(code, call.named, call.credential, purpose=purpose)
        )

    async def resync(self, call: Call) -> Answer:
        """`POST /v1/accounts/{id}:resync {"codes"}`: two codes in a row."""
        fields = await call.fields()
        first, second = fields.pair("codes")
        fields.end()
        attempt = Attempt(
            first,
            call.named,
            call.credential,
            purpose=Purpose.RESYNC,
            next_code=second,
        )
        return await self._decide(attempt)

    async def _decide(self, attempt: Attempt) -> Answer:
        decision = await self._bridge.ask(self._committer.decide, attempt)
        return answer_of(decision)


def answer_of(decision: Decision) -> Answer:
    """Return the answer to an attempt; made anew at most once for each step."""
    if decision.outcome is Outcome.ACCEPTED:
        return _accepted(decision.step)
    if decision.outcome is Outcome.THROTTLED:
        return _throttled(decision.retry_after_s)
    return _REFUSALS[decision.outcome]


# All that are accepted within a step share one answer.
@lru_cache(maxsize=256)
def _accepted(step: int | None) -> Answer:
    if step is None:
        return json_answer({"valid": True})
    return json_answer({"valid": True, "step": step})


@lru_cache(maxsize=256)
def _throttled(seconds: int) -> Answer:
    content = {"valid": False, "reason": "throttled", "retry_after": seconds}
    return json_answer(content, (b"retry-after", b"%d" % seconds))


@lru_cache(maxsize=16)
def _not_allowed(methods: str) -> Problem:
    allow = (b"allow", methods.encode("ascii"))
    return Problem(METHOD.status, METHOD.code, METHOD.title, allow)
