"""`otpseal serve`: the service over HTTP."""

import socket
from collections.abc import Callable
from typing import Annotated

import typer

from otpseal.cli.options import DataDir, Host, KeyFile, Port
from otpseal.config import Access, Settings, load_settings
from otpseal.wiring import open_service

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=64,
        help="Processes that answer requests. [OTPSEAL_WORKERS, default: 1]",
    ),
]
Inherited = Annotated[int | None, typer.Option(hidden=True)]


def serve(
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    listener_fd: Inherited = None,
    channel_fd: Inherited = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    On the first start with an empty data directory it makes its import key.
    """
    from otpseal.cli.workers import reporting, supervise
    from otpseal.http.server import bind, url_of
    from otpseal.http.tls import tls_files

    if listener_fd is not None and channel_fd is not None:
        with reporting(channel_fd) as on_ready:
            settings = load_settings(data_dir=data_dir, key_file=key_file, host=host)
            _answer(settings, lambda: socket.socket(fileno=listener_fd), on_ready)
        return
    settings = load_settings(
        data_dir=data_dir, key_file=key_file, host=host, port=port, workers=workers
    )
    # What can be refused at once is refused before keys are made.
    if settings.resolved_access() is Access.TOKEN:
        settings.classic_token()
    tls = tls_files(settings) is not None
    if settings.workers == 1:
        _answer(settings, lambda: bind(settings.host, settings.port))
        return
    listener = bind(settings.host, settings.port)
    url = url_of(listener, tls=tls)
    given = {"--data-dir": data_dir, "--key-file": key_file, "--host": host}
    supervise(
        [f"{name}={value}" for name, value in given.items() if value is not None],
        listener,
        count=settings.workers,
        on_ready=lambda: typer.echo(f"otpseal ready on {url}"),
    )


def _answer(
    settings: Settings,
    listen: Callable[[], socket.socket],
    on_ready: Callable[[], None] | None = None,
) -> None:
    from otpseal.http.app import create_app
    from otpseal.http.server import run, url_of
    from otpseal.http.tls import server_context

    tls = server_context(settings)
    listener = listen()
    url = url_of(listener, tls=tls is not None)
    with open_service(settings) as opened:
        app = create_app(opened, settings)
        tell = on_ready or (lambda: typer.echo(f"otpseal ready on {url}"))
        run(app, listener, on_ready=tell, tls=tls)
