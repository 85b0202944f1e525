"""The service's HTTP application.

A small ASGI function stands in front: the classic API's calls go to
`otpseal.http.classic`, everything else to FastAPI. It holds the one last-resort
handler: what nobody expected is logged without its message, which might hold a
secret, and answered with a static text.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from otpseal import __version__
from otpseal.committer import Committer
from otpseal.config import Access, AccessLogging, Settings
from otpseal.errors import Overloaded, StoreUnavailable
from otpseal.events import EventReader
from otpseal.health import HealthCheck
from otpseal.http import jwks, metrics_page, probes
from otpseal.http.access_log import AccessLog
from otpseal.http.api_page import add_api_page
from otpseal.http.auth import Gate
from otpseal.http.classic import ClassicApi
from otpseal.http.guard import HostGuard
from otpseal.http.housekeeping import keep_house
from otpseal.http.jwks import add_jwks
from otpseal.http.limits import WorkQueue
from otpseal.http.metrics import Metrics
from otpseal.http.metrics_page import MetricsPage
from otpseal.http.probes import Readiness, add_probes
from otpseal.http.problems import INTERNAL
from otpseal.http.request_id import enter, told
from otpseal.http.schemas import Health, add_classic_paths
from otpseal.http.v1 import PREFIX, V1Api
from otpseal.http.v1_accounts import AccountCalls
from otpseal.http.v1_envelopes import EnvelopeCalls
from otpseal.http.v1_events import EventCalls
from otpseal.http.v1_openapi import add_v1_paths
from otpseal.http.v1_problems import INTERNAL as V1_INTERNAL
from otpseal.http.wire import App, Disconnected, Receive, Scope, Send
from otpseal.wiring import OpenedService

#: A health check reads the store; strangers may not make it read more often.
HEALTH_CACHED_S: Final = 1.0

#: A store that has not answered by then is out of order, whatever it is waiting for.
HEALTH_DEADLINE_S: Final = 3.0

#: Calls of the v1 API, other than attempts, that wait for the store; more are 429.
WAITING_CALLS: Final = 64

_log = logging.getLogger("otpseal.http")


def create_app(
    opened: OpenedService,
    settings: Settings,
    *,
    readiness: Readiness | None = None,
    metrics: Metrics | None = None,
) -> App:
    """Return the ASGI application of the service.

    Args:
        opened: what answers.
        settings: how.
        readiness: tells `/readyz` that the service is stopping.
        metrics: what counts; by default there is none unless a token for `/metrics`
            is set.

    Raises:
        ConfigurationError: access was not chosen, or its token is missing.
    """
    access = settings.resolved_access()
    token = settings.classic_token() if access is Access.TOKEN else None
    metrics_token = settings.metrics_token()
    if metrics is None and metrics_token is not None:
        metrics = metrics_of(opened)
    queues = _Queues.of(opened, metrics)
    refused = _ignore if metrics is None else metrics.refused
    classic = ClassicApi(
        opened.service,
        committer=queues.committer,
        decryptions=queues.decryptions,
        gate=Gate(access, token),
        refused=refused,
    )
    reason = _cached(_health_check(opened, settings), queues.checks)
    pages = _create_pages(reason, _lifespan(opened, settings, queues), settings)
    add_probes(pages, reason, readiness or Readiness())
    if opened.key_ring is not None:
        add_jwks(pages, opened.key_ring, opened.service, queues.work)
    # On a port of its own alone, unless whoever reaches this one has a token.
    if metrics is not None and metrics_token is not None:
        shown = MetricsPage(metrics.page, metrics_token)
        pages.router.routes.append(Route(metrics_page.PATH, shown))
    v1 = _create_v1(opened, queues, refused) if settings.v1 else None
    app: App = Front(classic, v1, pages)
    if access is Access.OPEN:
        app = HostGuard(app, settings.allowed_hosts)
    if settings.access_log is AccessLogging.ON:
        own_paths = (probes.LIVE, probes.READY, metrics_page.PATH, jwks.PATH)
        app = AccessLog(app, {*classic.routes, *own_paths})
    return app


@dataclass(frozen=True, slots=True)
class _Queues:
    """Where requests wait: for the store, for RSA, for a look at the health."""

    committer: Committer
    decryptions: WorkQueue
    work: WorkQueue
    checks: WorkQueue

    @classmethod
    def of(cls, opened: OpenedService, metrics: Metrics | None) -> "_Queues":
        return cls(
            Committer(opened.service, metrics),
            WorkQueue(observer=metrics),
            # The store takes one at a time: a second thread is there for what ends in
            # between.
            WorkQueue(at_a_time=2, waiting=WAITING_CALLS),
            WorkQueue(at_a_time=1, waiting=0, deadline_s=HEALTH_DEADLINE_S),
        )

    def close(self) -> None:
        for queue in (self.checks, self.work, self.decryptions, self.committer):
            queue.close()


def _lifespan(
    opened: OpenedService, settings: Settings, queues: _Queues
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what runs beside the application, and ends with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        housekeeping = asyncio.create_task(
            keep_house(
                opened.service.upkeep.settle,
                prune=lambda: opened.audit.prune(
                    settings.audit_retention_days,
                    credible=opened.service.timekeeper.latest_credible,
                ),
            )
        )
        try:
            yield
            housekeeping.cancel()
            with suppress(asyncio.CancelledError):
                await housekeeping
        finally:
            queues.close()

    return lifespan


def metrics_of(opened: OpenedService) -> Metrics:
    """Return what counts for a service."""
    return Metrics(clock=opened.service.clock, code_log=opened.code_log)


def _create_v1(
    opened: OpenedService, queues: _Queues, refused: Callable[[str], None]
) -> V1Api:
    service, work = opened.service, queues.work
    accounts = AccountCalls(service, work=work, decryptions=queues.decryptions)
    reader = EventReader(opened.store, opened.storage_key, service.clock)
    events = EventCalls(reader, work=work)
    envelopes = EnvelopeCalls(
        service.envelopes, service.accounts, work=work, decryptions=queues.decryptions
    )
    return V1Api(
        service,
        committer=queues.committer,
        work=work,
        paths={**accounts.paths, **events.paths, **envelopes.paths},
        one=accounts.one,
        verbs=accounts.verbs,
        receipts=envelopes.receipts,
        refused=refused,
    )


def _ignore(_code: str) -> None:
    """Count nothing."""


class Front:
    """Sends each request to the v1 API, the classic API or FastAPI; survives them."""

    def __init__(self, classic: ClassicApi, v1: V1Api | None, pages: App) -> None:
        self._classic = classic
        self._v1 = v1
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        enter(scope)
        path = scope["path"]
        is_v1 = self._v1 is not None and path.startswith(PREFIX)
        is_classic = path in self._classic.routes
        try:
            if is_v1:
                assert self._v1 is not None
                await self._v1(scope, receive, send)
            elif is_classic:
                await self._classic(scope, receive, send, path)
            else:
                await self._pages(scope, receive, told(scope, send))
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - the one last resort
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("unexpected %s\n%s", type(error).__name__, frames)
            if is_v1:
                await V1_INTERNAL.answer.send(scope, send)
            elif is_classic:  # FastAPI answers by itself before it raises
                await INTERNAL.answer.send(scope, send)


def _health_check(opened: OpenedService, settings: Settings) -> HealthCheck:
    directories = [] if opened.directory is None else [opened.directory]
    if settings.code_log is not None:
        directories.append(settings.code_log.parent)
    return HealthCheck(
        opened.service,
        clock=opened.service.clock,
        directories=tuple(directories),
        code_log=opened.code_log,
    )


def _create_pages(
    reason: Callable[[], Awaitable[str | None]],
    lifespan: Callable[[FastAPI], Any],
    settings: Settings,
) -> FastAPI:
    pages = FastAPI(
        title="otpseal",
        version=__version__,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.api_docs else None,
        docs_url=None,  # its assets come from elsewhere; ours see `api_page`
        redoc_url=None,
        redirect_slashes=False,
    )
    pages.add_exception_handler(HTTPException, _http_refusal)
    pages.add_exception_handler(RequestValidationError, _invalid)
    pages.add_exception_handler(Exception, _unexpected)

    @pages.get("/health", responses={503: {"model": Health}})
    async def health() -> JSONResponse:
        """Tell whether the service is fit to work, and why not."""
        found = await reason()
        if found is None:
            return _json({"status": "ok"})
        return _json({"status": "degraded", "reason": found}, status=503)

    @pages.get("/", responses={200: {"content": {"text/html": {}}}})
    async def root(request: Request) -> Response:
        """Say what this is: JSON for programs, the console page for browsers."""
        if "text/html" in request.headers.get("accept", ""):
            return _console()
        return _json({"name": "otpseal", "version": __version__, "status": "ok"})

    if settings.api_docs:
        _document(pages, with_v1=settings.v1)
        add_api_page(pages)
    return pages


def _cached(
    check: HealthCheck, checks: WorkQueue
) -> Callable[[], Awaitable[str | None]]:
    """Return a health check that looks at most once in `HEALTH_CACHED_S`."""
    lock = asyncio.Lock()
    found: str | None = None
    looked_at = float("-inf")

    async def reason() -> str | None:
        nonlocal found, looked_at
        async with lock:
            if time.monotonic() - looked_at >= HEALTH_CACHED_S:
                try:
                    found = await checks.run(check.reason)
                except (StoreUnavailable, Overloaded):  # the one before still waits
                    found = "store unavailable"
                looked_at = time.monotonic()
        return found

    return reason


def _console() -> HTMLResponse:
    page = resources.files("otpseal.http").joinpath("console.html")
    return HTMLResponse(
        page.read_text("utf-8"),
        headers={
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline';"
            " frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        },
    )


def _document(pages: FastAPI, *, with_v1: bool) -> None:
    make = pages.openapi

    def openapi() -> dict[str, Any]:
        if pages.openapi_schema is None:
            add_classic_paths(make())
            if with_v1:
                add_v1_paths(make())
        return make()

    pages.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own recipe


def _json(content: dict[str, str], *, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})


async def _http_refusal(_: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "Not found", 405: "Method not allowed"}
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(
        {"error": words.get(status, "Request refused")}, status, headers=headers
    )


async def _invalid(_: Request, _error: Exception) -> JSONResponse:
    # FastAPI's own answer repeats the input.
    return JSONResponse({"error": "Invalid request"}, 422)


async def _unexpected(_: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"error": INTERNAL.text}, INTERNAL.status)
