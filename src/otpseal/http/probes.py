"""Two questions of whoever runs the process: does it live, is it ready for more?

`/livez` touches nothing: a process that answers need not be killed because a disk is
full. `/readyz` says what `/health` says, and also that the service is stopping.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

LIVE: Final = "/livez"
READY: Final = "/readyz"

_NO_STORE: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Readiness:
    """Whether new requests are welcome."""

    def __init__(self) -> None:
        self.is_stopping = False

    def stop(self) -> None:
        """Welcome none from now on; safe in a signal handler."""
        self.is_stopping = True


def add_probes(
    pages: FastAPI, reason: Callable[[], Awaitable[str | None]], readiness: Readiness
) -> None:
    """Add both; `reason` says what is wrong with the service, as for `/health`."""

    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok", headers=_NO_STORE)

    async def readyz() -> JSONResponse:
        found = await reason()
        # Asked last: the signal may come while the store is looked at.
        if readiness.is_stopping:
            return _not_ready("stopping", "the service is stopping")
        if found is not None:
            return _not_ready("degraded", found)
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    # They are for operators (docs/operations.md), not for clients.
    pages.add_api_route(LIVE, livez, methods=["GET"], include_in_schema=False)
    pages.add_api_route(READY, readyz, methods=["GET"], include_in_schema=False)


def _not_ready(status: str, reason: str) -> JSONResponse:
    return JSONResponse({"status": status, "reason": reason}, 503, headers=_NO_STORE)
