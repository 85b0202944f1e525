"""Runs an ASGI app on uvicorn with our limits; returns when it was asked to stop."""

import socket
from typing import Final

import uvicorn

from otpseal.errors import ConfigurationError
from otpseal.http.limits import DeadlineProtocol
from otpseal.http.wire import App

#: How long in-flight requests may take after SIGTERM, in seconds. Under Docker's
#: ten, so that a stop is never a kill.
GRACE_S: Final = 5
_BACKLOG: Final = 2048


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; `port` 0 takes a free one.

    Raises:
        ConfigurationError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror or error}. Choose"
            " another with --host and --port (0 takes a free port)"
        ) from None
    return listener


def run(app: App, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's scopes are TypedDicts
        http=DeadlineProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=GRACE_S,
    )
    uvicorn.Server(config).run(sockets=[listener])
