"""`otpseal serve`: the service over HTTP."""

import os
from contextlib import ExitStack

import typer

from otpseal.cli.options import DataDir, Host, KeyFile, Port
from otpseal.config import Access, LogFormat, load_settings
from otpseal.wiring import open_service


def serve(
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    On the first start with an empty data directory it makes its import key.
    """
    from otpseal.http.app import create_app, metrics_of
    from otpseal.http.metrics_page import bind_metrics, serve_metrics
    from otpseal.http.probes import Readiness
    from otpseal.http.request_id import current_request_id
    from otpseal.http.server import bind, run, url_of
    from otpseal.logs import log_as_json

    # Before the settings are read: a misspelt one is a line in the log, too.
    if os.environ.get("OTPSEAL_LOG_FORMAT") == LogFormat.JSON:
        log_as_json(request_id=current_request_id)
    settings = load_settings(data_dir=data_dir, key_file=key_file, host=host, port=port)
    # What can be refused at once is refused before keys are made.
    if settings.resolved_access() is Access.TOKEN:
        settings.classic_token()
    settings.metrics_token()
    listener = bind(settings.host, settings.port)
    metrics_listener = bind_metrics(settings)
    with ExitStack() as stack:
        opened = stack.enter_context(open_service(settings))
        readiness = Readiness()
        metrics = None
        if metrics_listener is not None:
            metrics = metrics_of(opened)
            shown = serve_metrics(metrics_listener, settings, metrics.page)
            typer.echo(f"otpseal metrics on {stack.enter_context(shown)}")
        app = create_app(opened, settings, readiness=readiness, metrics=metrics)
        run(
            app,
            listener,
            on_ready=lambda: typer.echo(f"otpseal ready on {url_of(listener)}"),
            on_stop=readiness.stop,
        )
