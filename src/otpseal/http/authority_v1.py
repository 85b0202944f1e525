"""What an authority answers to subscribers: enrolment, receipts, its keys.

Beside the classic protocol of `otpseal.http.authority`, which knows no subscribers.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from otpseal import base64url
from otpseal.enrolment import EnrolmentDesk
from otpseal.http.limits import WorkQueue
from otpseal.http.wire import BadRequest, Receive, Refusal, Scope, read_json_object
from otpseal.requested_keys import PQ_KEY_BYTES, RECEIPT_KEY_BYTES

#: Where each call is.
ENROL: Final = "/v1/enrol"
RECEIPTS: Final = "/v1/receipts"
JWKS: Final = "/.well-known/jwks.json"

_NO_REQUEST: Final = Refusal(400, "request must be a PKCS#10 request in base64")
_NO_RECEIPT: Final = Refusal(400, "receipt must be a text")
_NO_RECEIPT_KEY: Final = Refusal(
    400, "receipt_key must be an Ed25519 public key: 32 bytes in base64url"
)
_NO_PQ_KEY: Final = Refusal(
    400, "pq_key must be an import key of the suite pq: 1216 bytes in base64url"
)

Json = dict[str, Any]
Call = Callable[[Scope, Receive], Awaitable[Json]]


class SubscriberCalls:
    """The calls of subscribers.

    Args:
        desk: the use cases.
        jwks: gives the authority's signing keys as they are now (RFC 7517 section 5).
        work: bounds what is done at a time, shared with the classic protocol.
    """

    def __init__(
        self,
        desk: EnrolmentDesk,
        jwks: Callable[[], Mapping[str, Any]],
        work: WorkQueue,
    ) -> None:
        self._desk = desk
        self._jwks = jwks
        self._work = work
        #: Path -> method -> call; HEAD is answered as GET is.
        self.paths: dict[str, dict[str, Call]] = {
            ENROL: {"POST": self._enrol},
            RECEIPTS: {"POST": self._confirm},
            JWKS: {"GET": self._keys, "HEAD": self._keys},
        }

    async def _enrol(self, scope: Scope, receive: Receive) -> Json:
        body = await _read(scope, receive)
        csr = _decoded(body.get("request"), _base64, _NO_REQUEST)
        receipt_key = _key(body, "receipt_key", RECEIPT_KEY_BYTES, _NO_RECEIPT_KEY)
        pq_key = _key(body, "pq_key", PQ_KEY_BYTES, _NO_PQ_KEY)
        enrolled = await self._work.run(
            lambda: self._desk.enrol(csr, receipt_key=receipt_key, pq_key=pq_key)
        )
        answer = {"status": "success", "envelope": enrolled.envelope}
        if enrolled.certificate is not None:
            answer["certificate"] = enrolled.certificate
        return answer

    async def _confirm(self, scope: Scope, receive: Receive) -> Json:
        body = await _read(scope, receive)
        text = body.get("receipt")
        if not isinstance(text, str):
            raise BadRequest(_NO_RECEIPT)
        await self._work.run(lambda: self._desk.confirm(text))
        return {"status": "success"}

    async def _keys(self, _scope: Scope, _receive: Receive) -> Json:
        return dict(self._jwks())


async def _read(scope: Scope, receive: Receive) -> Json:
    try:
        return await read_json_object(scope, receive)
    except BadRequest as error:
        # As the classic protocol: every refusal of a request's form is a 400.
        raise BadRequest(Refusal(400, error.refusal.text)) from None


def _key(body: Json, member: str, length: int, refusal: Refusal) -> bytes | None:
    """Return a raw key of that many bytes; None if the member is not there."""
    if member not in body:
        return None
    raw = _decoded(body[member], base64url.decode, refusal)
    if len(raw) != length:
        raise BadRequest(refusal)
    return raw


def _decoded(value: object, decode: Callable[[str], bytes], refusal: Refusal) -> bytes:
    if not isinstance(value, str):
        raise BadRequest(refusal)
    try:
        return decode(value)
    except ValueError:
        raise BadRequest(refusal) from None


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
