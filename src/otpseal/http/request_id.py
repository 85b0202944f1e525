"""The id by which the log lines of one request are found.

It is made when a line or an answer asks for it: most requests log nothing.
"""

import contextvars
import re
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from otpseal.http.wire import Message, Scope, Send, headers_named

HEADER: Final = b"x-request-id"

#: What is taken over from a client or proxy; anything else is ignored.
_ACCEPTABLE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_RANDOM_BYTES: Final = 8
_KEY: Final = "otpseal.request_id"

T = TypeVar("T")

_current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar(
    "otpseal_request", default=None
)


def enter(scope: Scope) -> None:
    """Make `scope` the request of this task, to its end."""
    _current.set(scope)


def current_request_id() -> str | None:
    """Return the id of the request that is answered here, or None."""
    scope = _current.get()
    return None if scope is None else request_id_of(scope)


def request_id_of(scope: Scope) -> str:
    """Return a request's id: the client's if it is acceptable, else a random one."""
    found = scope.get(_KEY)
    if found is None:
        given = headers_named(scope, HEADER)
        if len(given) == 1 and _ACCEPTABLE.fullmatch(given[0]):
            found = given[0].decode("ascii")
        else:
            found = secrets.token_hex(_RANDOM_BYTES)
        scope[_KEY] = found
    return str(found)


def told(scope: Scope, send: Send) -> Send:
    """Return a `send` that adds the request's id to the answer's headers."""

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            line = (HEADER, request_id_of(scope).encode("ascii"))
            message = {**message, "headers": [*message.get("headers", ()), line]}
        await send(message)

    return send_with_id


def carried(work: Callable[..., T], *args: Any) -> Callable[[], T]:  # noqa: ANN401
    """Return `work(*args)`, to be called in another thread as part of this request."""
    return partial(contextvars.copy_context().run, work, *args)
