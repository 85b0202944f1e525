"""The classic API: the exercise's three calls, exactly as CONTRACT.md has them.

Small ASGI functions and no framework routing: verifying is what the service does all
day, and FastAPI's routing would cost more than the decision and its commit.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from otpseal.committer import Committer
from otpseal.errors import (
    ClockBehind,
    OtpsealError,
    SeedUnreadable,
    StoreUnavailable,
)
from otpseal.http.auth import Gate
from otpseal.http.bridge import Bridge
from otpseal.http.complaints import Complaints
from otpseal.http.limits import WorkQueue
from otpseal.http.problems import answer_to
from otpseal.http.wire import (
    BadRequest,
    Receive,
    Refusal,
    Scope,
    Send,
    json_answer,
    read_json_object,
)
from otpseal.service import DEFAULT_ACCOUNT, Attempt, Service
from otpseal.verification import Decision, Outcome

_MISSING_SEED: Final = Refusal(400, "Missing encrypted_seed")
_SEED_TYPE: Final = Refusal(422, "encrypted_seed must be a string")
_MISSING_CODE: Final = Refusal(400, "Missing code")
_CODE_TYPE: Final = Refusal(422, "code must be a string of six digits")
_DISABLED: Final = Refusal(403, "Account disabled")

_STORED: Final = json_answer({"status": "ok"})
_VALID: Final = json_answer({"valid": True})
_NOT_VALID: Final = json_answer({"valid": False})

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClassicApi:
    """The three calls; each reads, asks the service, and answers.

    Args:
        service: opens and keeps seeds.
        committer: decides attempts and reads codes in batches.
        decryptions: bounds the RSA work.
        gate: who may call.
        refused: is told the code of each error, or the status of the refusal.
    """

    def __init__(
        self,
        service: Service,
        *,
        committer: Committer,
        decryptions: WorkQueue,
        gate: Gate,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._service = service
        self._committer = committer
        self._decryptions = decryptions
        self._gate = gate
        self._refused = refused
        self._bridge = Bridge()
        self._complaints = Complaints()
        #: Path -> method and call.
        self.routes: dict[str, tuple[str, Handler]] = {
            "/decrypt-seed": ("POST", self.decrypt_seed),
            "/generate-2fa": ("GET", self.generate_2fa),
            "/verify-2fa": ("POST", self.verify_2fa),
        }

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, path: str
    ) -> None:
        """Answer a request for one of `routes`."""
        method, handler = self.routes[path]
        try:
            self._gate.admit(scope)
            if scope["method"] != method:
                allow = (b"allow", method.encode("ascii"))
                raise BadRequest(Refusal(405, "Method not allowed", allow))
            await handler(scope, receive, send)
        except BadRequest as error:
            self._refused(f"http_{error.refusal.status}")
            await error.refusal.answer.send(scope, send)
        except OtpsealError as error:
            self._refused(error.code)
            if isinstance(error, ClockBehind | SeedUnreadable | StoreUnavailable):
                self._complaints.say(path, error)
            await answer_to(error).answer.send(scope, send)

    async def decrypt_seed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /decrypt-seed {"encrypted_seed": base64}`: open and keep a seed."""
        body = await read_json_object(scope, receive)
        sealed = body.get("encrypted_seed")
        if sealed is None or sealed == "":
            raise BadRequest(_MISSING_SEED)
        if not isinstance(sealed, str):
            raise BadRequest(_SEED_TYPE)
        await self._decryptions.run(self._service.import_sealed, sealed)
        await _STORED.send(scope, send)

    async def generate_2fa(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """`GET /generate-2fa`: the current code; asking never spends it."""
        code = await self._bridge.ask(self._committer.current_code, DEFAULT_ACCOUNT)
        content = {"code": code.text, "valid_for": code.valid_for}
        await json_answer(content).send(scope, send)

    async def verify_2fa(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /verify-2fa {"code": "123456"}`: decide about an attempt."""
        body = await read_json_object(scope, receive)
        code = body.get("code")
        if code is None or code == "":
            raise BadRequest(_MISSING_CODE)
        if not isinstance(code, str):
            raise BadRequest(_CODE_TYPE)
        decision = await self._bridge.ask(self._committer.decide, Attempt(code))
        await (_VALID if _is_valid(decision) else _NOT_VALID).send(scope, send)


def _is_valid(decision: Decision) -> bool:
    if decision.outcome is Outcome.DISABLED:
        raise BadRequest(_DISABLED)
    if decision.outcome is Outcome.THROTTLED:
        wait = (b"retry-after", b"%d" % decision.retry_after_s)
        raise BadRequest(Refusal(429, "Too many attempts", wait))
    return decision.outcome is Outcome.ACCEPTED
