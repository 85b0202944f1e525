"""What an authority answers to subscribers: enrolment, receipts, its keys.

Beside the classic protocol of `otpseal.http.authority`, which knows no subscribers.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from otpseal import base64url
from otpseal.enrolment import RECEIPT_KEY_BYTES, EnrolmentDesk
from otpseal.http.limits import WorkQueue
from otpseal.http.wire import BadRequest, Receive, Refusal, Scope, read_json_object

#: Where each call is.
ENROL: Final = "/v1/enrol"
RECEIPTS: Final = "/v1/receipts"
JWKS: Final = "/.well-known/jwks.json"

_NO_REQUEST: Final = Refusal(400, "request must be a PKCS#10 request in base64")
_NO_RECEIPT: Final = Refusal(400, "receipt must be a text")
_NO_KEY: Final = Refusal(
    400, "receipt_key must be an Ed25519 public key: 32 bytes in base64url"
)

Json = dict[str, Any]
Call = Callable[[Scope, Receive], Awaitable[Json]]


class SubscriberCalls:
    """The calls of subscribers.

    Args:
        desk: gives the use cases, as the signing files are now.
        jwks: gives the authority's signing keys (RFC 7517 section 5), likewise.
        work: bounds what is done at a time, shared with the classic protocol.
    """

    def __init__(
        self,
        desk: Callable[[], EnrolmentDesk],
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
        receipt_key = None
        if "receipt_key" in body:
            receipt_key = _decoded(body["receipt_key"], base64url.decode, _NO_KEY)
            if len(receipt_key) != RECEIPT_KEY_BYTES:
                raise BadRequest(_NO_KEY)
        enrolled = await self._work.run(
            lambda: self._desk().enrol(csr, receipt_key=receipt_key)
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
        await self._work.run(lambda: self._desk().confirm(text))
        return {"status": "success"}

    async def _keys(self, _scope: Scope, _receive: Receive) -> Json:
        return dict(self._jwks())


async def _read(scope: Scope, receive: Receive) -> Json:
    try:
        return await read_json_object(scope, receive)
    except BadRequest as error:
        # As the classic protocol: every refusal of a request's form is a 400.
        raise BadRequest(Refusal(400, error.refusal.text)) from None


def _decoded(value: object, decode: Callable[[str], bytes], refusal: Refusal) -> bytes:
    if not isinstance(value, str):
        raise BadRequest(refusal)
    try:
        return decode(value)
    except ValueError:
        raise BadRequest(refusal) from None


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
