"""Bytes on the wire: strict JSON in, compact JSON out, one capped body reader."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from otpseal import strict_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Largest request body that is read, in bytes: a sealed seed is 684 characters, a
#: public key under 2 KiB.
MAX_BODY_BYTES: Final = 8192

_JSON: Final = b"application/json"
_JSON_HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


#: ASGI extension of `otpseal.http.protocol`: writes a prepared answer in one piece.
AT_ONCE: Final = "otpseal.answer_at_once"

#: ASGI extension of `otpseal.http.protocol`: the names in the client's certificate, a
#: tuple of `DNS:...`, `URI:...`, `email:...`. Absent if none was shown and verified.
PEER_NAMES: Final = "otpseal.peer_names"


class Answer:
    """A complete answer, made once and sent as often as needed.

    Args:
        body: all of it.
        headers: lower-case names; Content-Length is added, but to a 204.
        status: HTTP status.
    """

    __slots__ = ("_body", "_start", "head", "status_line", "tail")

    def __init__(
        self, body: bytes, *headers: tuple[bytes, bytes], status: int = 200
    ) -> None:
        lines = list(headers)
        if status != HTTPStatus.NO_CONTENT:  # RFC 9110 section 8.6
            lines.append((b"content-length", b"%d" % len(body)))
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": lines,
        }
        self._body = {"type": "http.response.body", "body": body}
        phrase = HTTPStatus(status).phrase.encode("ascii")
        self.status_line = b"HTTP/1.1 %d %s\r\n" % (status, phrase)
        self.head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
        self.tail = b"\r\n" + body

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it: in one piece where the server can, else by two ASGI messages."""
        at_once = scope.get("extensions", {}).get(AT_ONCE)
        if at_once is None or not at_once(self):
            await send(self._start)
            await send(self._body)


def json_answer(
    content: object,
    *headers: tuple[bytes, bytes],
    status: int = 200,
    kind: bytes = _JSON,
) -> Answer:
    """Return compact JSON (shell clients grep for `"code":"`), never to be cached."""
    body = _ENCODER.encode(content).encode("ascii")
    typed = (b"content-type", kind)
    return Answer(body, typed, *_JSON_HEADERS, *headers, status=status)


class Refusal:
    """A static answer to requests that are not fulfilled.

    Args:
        status: HTTP status.
        text: for people; never a piece of the request.
        headers: further headers.
    """

    __slots__ = ("answer", "headers", "status", "text")

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        self.text = text
        self.headers = headers
        # Made once, so that a flood of refused requests is cheap.
        self.answer = json_answer({"error": text}, *headers, status=status)


class BadRequest(Exception):  # noqa: N818 - it names the answer, as statuses do
    """A request is refused before it reaches a use case.

    Raised anew each time: an exception that is kept and raised again would gather
    the frames, and with them the bodies, of all requests that it ever refused.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class Disconnected(Exception):  # noqa: N818 - no error: the client has gone
    """The client went away before its request was complete."""


MALFORMED: Final = Refusal(400, "Malformed JSON")
TOO_LARGE: Final = Refusal(413, "Request too large")
NOT_AN_OBJECT: Final = Refusal(422, "The body must be a JSON object")
WRONG_TYPE: Final = Refusal(415, "Content-Type must be application/json")


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of that lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def headers_named(scope: Scope, name: bytes) -> list[bytes]:
    """Return every value of a header."""
    return [bytes(value) for key, value in scope["headers"] if key == name]


async def read_json_object(
    scope: Scope,
    receive: Receive,
    *,
    max_bytes: int = MAX_BODY_BYTES,
    blanks_are_none: bool = True,
) -> dict[str, Any]:
    """Read a request body that must be one JSON object; an empty body is `{}`.

    Raises:
        BadRequest: 415 for another content type (a browser can send text/plain, or
            no type at all, across origins without asking first), 413, 400.
        Disconnected: the client went away.
    """
    kind = (header(scope, b"content-type") or b"").partition(b";")[0]
    if kind.strip().lower() != b"application/json":
        raise BadRequest(WRONG_TYPE)
    body = await read_body(receive, max_bytes)
    if body and not blanks_are_none and not body.strip():
        raise BadRequest(MALFORMED)  # as RFC 8259 has it; the exercise is laxer
    return parse_json_object(body)


async def read_body(receive: Receive, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read a whole body, counted on the stream, whatever Content-Length says.

    Raises:
        BadRequest: 413 beyond `max_bytes`.
        Disconnected: the client went away.
    """
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > max_bytes:
            raise BadRequest(TOO_LARGE)
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body += message.get("body", b"")
    if len(body) > max_bytes:
        raise BadRequest(TOO_LARGE)
    return bytes(body)


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Parse strict JSON: UTF-8, no NaN, no duplicate keys; nothing at all is `{}`.

    Raises:
        BadRequest: 400; the text is static.
    """
    if not body.strip():
        return {}
    try:
        parsed = strict_json.parse(body)
    except ValueError:
        raise BadRequest(MALFORMED) from None
    if not isinstance(parsed, dict):
        raise BadRequest(NOT_AN_OBJECT)
    return parsed
