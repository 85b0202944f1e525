"""Where the numbers are shown: `/metrics` on the main port, or a port of its own.

What a service does all day is nobody's business but its operator's: on the main port
it takes a token, and a port of its own is on loopback unless a setting says
otherwise. With neither setting there is no such page.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from otpseal.config import Access, Settings
from otpseal.http.auth import Gate
from otpseal.http.guard import HostGuard
from otpseal.http.server import bind, configure, url_of
from otpseal.http.wire import Answer, App, BadRequest, Receive, Refusal, Scope, Send
from otpseal.secret import Secret

PATH: Final = "/metrics"

_NOT_FOUND: Final = Refusal(404, "Not found")
_WRONG_METHOD: Final = Refusal(405, "Method not allowed", (b"allow", b"GET, HEAD"))
_STOPS_WITHIN_S: Final = 10.0


class MetricsPage:
    """Answers `GET /metrics`.

    Args:
        page: makes its content; may read files.
        token: what a caller must hold, if anything.
    """

    def __init__(self, page: Callable[[], bytes], token: Secret | None) -> None:
        self._page = page
        self._gate = Gate(Access.OPEN if token is None else Access.TOKEN, token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive  # nobody sends a body
        try:
            if scope["path"] != PATH:
                raise BadRequest(_NOT_FOUND)
            self._gate.admit(scope)
            if scope["method"] not in {"GET", "HEAD"}:
                raise BadRequest(_WRONG_METHOD)
        except BadRequest as error:
            await error.refusal.answer.send(scope, send)
            return
        body = await asyncio.to_thread(self._page)
        answer = Answer(
            body,
            (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        )
        await answer.send(scope, send)


def bind_metrics(settings: Settings) -> socket.socket | None:
    """Return the listening socket of the metrics' own port, or None if none is set.

    Raises:
        ConfigurationError: the address is in use or not ours.
    """
    if settings.metrics_port is None:
        return None
    return bind(
        settings.metrics_host,
        settings.metrics_port,
        advice="OTPSEAL_METRICS_HOST and OTPSEAL_METRICS_PORT",
    )


@contextmanager
def serve_metrics(
    listener: socket.socket, settings: Settings, page: Callable[[], bytes]
) -> Iterator[str]:
    """Serve `page` on `listener` in a thread, to the end of the block; gives its URL.

    For the process that serves the API, or for the parent of several that do.

    Raises:
        ConfigurationError: the token cannot be read.
    """
    token = settings.metrics_token()
    app: App = MetricsPage(page, token)
    if token is None:
        app = HostGuard(app, settings.allowed_hosts)  # a browser may be here too
    config = configure(app)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run,
        kwargs={"sockets": [listener]},
        name="metrics",
        daemon=True,
    )
    thread.start()
    try:
        yield url_of(listener) + PATH
    finally:
        server.should_exit = True
        thread.join(_STOPS_WITHIN_S)
        listener.close()
