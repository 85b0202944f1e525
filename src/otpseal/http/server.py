"""Runs an ASGI app on uvicorn with our limits; returns when it was asked to stop."""

import asyncio
import functools
import gc
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn

from otpseal.errors import ConfigurationError
from otpseal.http.handshakes import TlsListener
from otpseal.http.protocol import DeadlineProtocol
from otpseal.http.wire import App
from otpseal.process import raise_descriptor_limit

#: How long in-flight requests may take after SIGTERM, in seconds. Under Docker's
#: ten, so that a stop is never a kill.
GRACE_S: Final = 5
_BACKLOG: Final = 2048


def bind(host: str, port: int, *, advice: str = "--host and --port") -> socket.socket:
    """Return a listening socket; `port` 0 takes a free one.

    `advice` names what chooses another address.

    Raises:
        ConfigurationError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:  # a host that is no name at all
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {reason or 'not an address'}. Choose"
            f" another with {advice} (0 takes a free port)"
        ) from None
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def run(
    app: App,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None] = lambda: None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered.

    Calls `on_ready` once the application has started and answers, and `on_stop`, in a
    signal handler, when it is asked to stop. With `tls` the listener speaks nothing
    else.
    """
    raise_descriptor_limit()
    server = _Server(configure(app, tls), on_ready, on_stop)
    # uvicorn listens to signals only once its loop runs, and raises them again when it
    # has shut down. Before that it is told by us; after it, it was obeyed: the caller
    # shall go on, close its store and exit 0.
    with _handled(server.handle_exit, signal.SIGTERM, signal.SIGINT):
        server.run(sockets=[listener])


def configure(app: App, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """Return how uvicorn is to run `app`."""
    return uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        log_level="error",  # its warnings are one for each stranger's bad request
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], *signals: signal.Signals
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn starts the application and is given nothing to listen on: it would
        # leave a TLS handshake its sixty seconds.
        await super().startup(sockets=[])
        await self._listen(sockets or [])
        if self.started:
            # What is loaded by now stays: the collector need not walk it each time.
            gc.collect()
            gc.freeze()
            self._on_ready()

    async def _listen(self, sockets: list[socket.socket]) -> None:
        tls = self.config.ssl
        protocol = functools.partial(
            DeadlineProtocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        for sock in sockets:
            if tls is None:
                self.servers.append(
                    await loop.create_server(protocol, sock=sock, backlog=_BACKLOG)
                )
            else:
                shaking = TlsListener(sock, tls, protocol)
                shaking.listen()
                self.servers.append(shaking)  # type: ignore[arg-type] # closed, waited for
