"""`otpseal serve`: the service over HTTP."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated

import typer

from otpseal.cli.options import DataDir, Host, KeyFile, Port
from otpseal.config import Access, LogFormat, Settings, load_settings
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
    from otpseal.cli.workers import reporting

    _set_up_log()
    if listener_fd is not None and channel_fd is not None:
        with reporting(channel_fd) as on_ready:
            settings = load_settings(data_dir=data_dir, key_file=key_file, host=host)
            _answer(settings, socket.socket(fileno=listener_fd), on_ready)
        return
    settings = load_settings(
        data_dir=data_dir, key_file=key_file, host=host, port=port, workers=workers
    )
    # What can be refused at once is refused before keys are made.
    if settings.resolved_access() is Access.TOKEN:
        settings.classic_token()
    settings.metrics_token()
    if settings.workers == 1:
        _answer(settings)
        return
    given = {"--data-dir": data_dir, "--key-file": key_file, "--host": host}
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    _supervise(settings, options)


def _set_up_log() -> None:
    # Before the settings are read: a misspelt one is a line in the log, too.
    if os.environ.get("OTPSEAL_LOG_FORMAT") == LogFormat.JSON:
        from otpseal.http.request_id import current_request_id
        from otpseal.logs import log_as_json

        log_as_json(request_id=current_request_id)


def _supervise(settings: Settings, options: list[str]) -> None:
    """Keep several workers; the parent shows the sum of their numbers."""
    from otpseal.cli.workers import supervise, worker_environment
    from otpseal.http.metrics import SHARED_DIRECTORY, shared_page
    from otpseal.http.metrics_page import bind_metrics, serve_metrics
    from otpseal.http.server import bind, url_of
    from otpseal.http.tls import tls_files

    tls = tls_files(settings) is not None
    listener = bind(settings.host, settings.port)
    url = url_of(listener, tls=tls)
    metrics_listener = bind_metrics(settings)
    with ExitStack() as stack:
        environment = stack.enter_context(worker_environment())
        if metrics_listener is not None:
            directory = environment[SHARED_DIRECTORY]
            shown = serve_metrics(
                metrics_listener, settings, lambda: shared_page(directory)
            )
            typer.echo(f"otpseal metrics on {stack.enter_context(shown)}")
        supervise(
            options,
            listener,
            environment,
            count=settings.workers,
            on_ready=lambda: typer.echo(f"otpseal ready on {url}"),
        )


def _answer(
    settings: Settings,
    inherited: socket.socket | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Answer requests, alone or as a worker with its parent's listener."""
    from otpseal.http.app import create_app, metrics_of
    from otpseal.http.metrics_page import bind_metrics, serve_metrics
    from otpseal.http.probes import Readiness
    from otpseal.http.server import bind, run, url_of
    from otpseal.http.tls import server_context

    tls = server_context(settings)
    listener = inherited or bind(settings.host, settings.port)
    url = url_of(listener, tls=tls is not None)
    # A worker's numbers are shown by its parent.
    metrics_listener = bind_metrics(settings) if inherited is None else None
    with ExitStack() as stack:
        opened = stack.enter_context(open_service(settings))
        readiness = Readiness()
        metrics = None if settings.metrics_port is None else metrics_of(opened)
        if metrics is not None and metrics_listener is not None:
            shown = serve_metrics(metrics_listener, settings, metrics.page)
            typer.echo(f"otpseal metrics on {stack.enter_context(shown)}")
        app = create_app(opened, settings, readiness=readiness, metrics=metrics)
        run(
            app,
            listener,
            on_ready=on_ready or (lambda: typer.echo(f"otpseal ready on {url}")),
            on_stop=readiness.stop,
            tls=tls,
        )
