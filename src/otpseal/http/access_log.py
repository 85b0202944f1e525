"""A log line for each request, if it is wanted: it costs more than a decision.

The line names the route and never the path as it was sent: paths hold account ids,
and what strangers type.
"""

import logging
import time
from collections.abc import Container
from typing import Final

from otpseal.http.request_id import enter
from otpseal.http.wire import AT_ONCE, Answer, App, Message, Receive, Scope, Send

#: Where an ASGI app leaves the template of the route that it took.
ROUTE: Final = "otpseal.route"

_UNKNOWN: Final = "(unknown)"
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)
_log = logging.getLogger("otpseal.access")


class AccessLog:
    """Passes requests on and logs method, route, status and duration of each.

    Args:
        app: what answers.
        paths: those that are routes as they stand, without anything typed in them.
    """

    def __init__(self, app: App, paths: Container[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, then log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        enter(scope)
        started = time.perf_counter()
        status = 0  # the client left before it was answered
        extensions = scope.get("extensions") or {}
        at_once = extensions.get(AT_ONCE)

        def note_at_once(answer: Answer) -> bool:
            nonlocal status
            if at_once is None or not at_once(answer):
                return False
            status = int(answer.status_line.split(b" ", 2)[1])
            return True

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope["extensions"] = {**extensions, AT_ONCE: note_at_once}
        try:
            await self._app(scope, receive, note)
        finally:
            self._tell(scope, status, time.perf_counter() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        given = scope["method"]
        method = given if given in _METHODS else _UNKNOWN
        route = self._route(scope)
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        _log.info("%s %s %d", method, route, status, extra=fields)

    def _route(self, scope: Scope) -> str:
        if ROUTE in scope:
            return str(scope[ROUTE])
        if scope["path"] in self._paths:
            return str(scope["path"])
        # FastAPI leaves the route that it found.
        return str(getattr(scope.get("route"), "path", _UNKNOWN))
