"""The interactive page about the API, `/docs`; it works without the internet.

Its files are others' (`assets/`, swagger-ui by SmartBear, Apache-2.0), brought by
`make assets` and checked in. Each is served under a path that holds its hash, and
named with it on the page: a browser runs nothing that is not what was checked in.
"""

import base64
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources
from typing import Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

_KINDS: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
_HASH_CHARS: Final = 16

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>otpseal API</title>
<link rel="icon" href="data:,">
{style}
</head>
<body>
<div id="page"></div>
<noscript>This page needs scripts; the document behind it is openapi.json.</noscript>
{scripts}
</body>
</html>
"""

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src"
    " 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_ASSET_HEADERS: Final = {
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}


def add_api_page(pages: FastAPI) -> None:
    """Add the page and its files to the routes."""
    sums = _sums()
    page = _page(sums)

    @pages.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """Show the API, and let it be tried."""
        return HTMLResponse(page, headers=_HEADERS)

    for name, kind in _KINDS.items():
        pages.get(f"/{_path(name, sums)}", include_in_schema=False)(_sender(name, kind))


def _sender(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(_read(name), media_type=kind, headers=_ASSET_HEADERS)

    return send


@cache
def _read(name: str) -> bytes:
    return _assets().joinpath(name).read_bytes()


def _assets() -> resources.abc.Traversable:
    return resources.files("otpseal.http").joinpath("assets")


def _sums() -> dict[str, str]:
    """Return SHA-256 in hex by file name, as checked in."""
    lines = _assets().joinpath("SHA256SUMS").read_text("ascii").splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def _path(name: str, sums: dict[str, str]) -> str:
    return f"docs/{sums[name][:_HASH_CHARS]}/{name}"


def _page(sums: dict[str, str]) -> str:
    def named(name: str, attribute: str) -> str:
        digest = base64.b64encode(bytes.fromhex(sums[name])).decode("ascii")
        return f'{attribute}="{_path(name, sums)}" integrity="sha256-{digest}"'

    return _PAGE.format(
        style=f'<link rel="stylesheet" {named("swagger-ui.css", "href")}>',
        scripts="\n".join(
            f"<script {named(name, 'src')}></script>"
            for name in ("swagger-ui-bundle.js", "page.js")
        ),
    )
