"""`/.well-known/jwks.json`: the public keys of the service, for whoever asks.

Authorities seal to the import keys (`use: enc`, the active one before the next), and
verify receipts by the others (`use: sig`). The answer is the same for everybody and
may be cached; a stranger makes the service read its store once in a second at most.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from otpseal.errors import Overloaded, StoreUnavailable
from otpseal.http.limits import WorkQueue
from otpseal.key_ring import KeyRing
from otpseal.service import Service
from otpseal.suite import Suite

PATH: Final = "/.well-known/jwks.json"

#: How long an answer may be used again, in seconds; and how old it is at most.
MAX_AGE_S: Final = 60
CACHED_S: Final = 1.0

_TYPE: Final = "application/jwk-set+json"  # RFC 7517 section 8.5.2


def key_set(ring: KeyRing, service: Service) -> dict[str, Any]:
    """Return the JWK set (RFC 7517 section 5).

    The key of the suite pq is made when it is first asked for.

    Raises:
        StoreUnavailable: nobody knows which keys there are.
    """
    keys: list[dict[str, str]] = [
        {
            **json.loads(key.jwk),
            "kid": key.kid,
            "use": "enc",
            "alg": "RSA-OAEP-256",
        }
        for key in ring.published()
    ]
    if Suite.PQ in service.suites:
        keys += service.own_keys.pq_jwks()
    return {"keys": keys + service.own_keys.receipt_jwks()}


def add_jwks(pages: FastAPI, ring: KeyRing, service: Service, work: WorkQueue) -> None:
    """Add the path; `work` reads the store."""
    found = _cached(lambda: key_set(ring, service), work)

    async def jwks() -> Response:
        try:
            content = await found()
        except (StoreUnavailable, Overloaded):
            headers = {"cache-control": "no-store", "retry-after": "1"}
            return JSONResponse({"error": "Store unavailable"}, 503, headers=headers)
        headers = {
            "cache-control": f"public, max-age={MAX_AGE_S}",
            "x-content-type-options": "nosniff",
        }
        return JSONResponse(content, headers=headers, media_type=_TYPE)

    pages.add_api_route(PATH, jwks, methods=["GET"], include_in_schema=False)


def _cached(
    make: Callable[[], dict[str, Any]], work: WorkQueue
) -> Callable[[], Awaitable[dict[str, Any]]]:
    lock = asyncio.Lock()
    made: dict[str, Any] = {}
    made_at = float("-inf")

    async def found() -> dict[str, Any]:
        nonlocal made, made_at
        async with lock:
            if time.monotonic() - made_at >= CACHED_S:
                made = await work.run(make)
                made_at = time.monotonic()
        return made

    return found
