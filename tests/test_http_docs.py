"""The interactive page: whole, its files unaltered, and needing nobody else."""

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from conftest import TurnedClock
from server_fixture import Here, served_here

from otpseal.adapters.file_keys import RsaKeys

ASSETS = Path(str(resources.files("otpseal.http").joinpath("assets")))
REFERENCE = re.compile(r'(?:href|src)="(docs/[^"]+)" integrity="sha256-([^"]+)"')


@pytest.fixture
def here(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[Here]:
    """A service."""
    with served_here(tmp_path, service_keys, clock) as served:
        yield served


def test_the_files_are_those_that_were_checked_in() -> None:
    """Every file has its sum, every sum its file: what was altered is seen."""
    lines = (ASSETS / "SHA256SUMS").read_text("ascii").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}

    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ASSETS.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_the_licence_comes_along() -> None:
    """Apache-2.0, section 4: its text and the notice."""
    assert "Apache License" in (ASSETS / "LICENSE").read_text("utf-8")
    assert "SmartBear" in (ASSETS / "NOTICE").read_text("utf-8")


def test_the_page(here: Here) -> None:
    """Names its files by their hashes, and a browser may load nothing else."""
    reply = here.get("/docs")

    page = reply.body.decode()
    policy = reply.header("content-security-policy") or ""
    assert reply.header("content-type") == "text/html; charset=utf-8"
    assert reply.header("cache-control") == "no-store"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "<script>" not in page
    assert re.findall(r"(?:href|src)=\"(?!docs/|data:,)", page) == []
    found = REFERENCE.findall(page)
    assert [Path(path).name for path, _ in found] == [
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "page.js",
    ]
    for path, integrity in found:
        asset = here.get(f"/{path}")
        assert asset.status == 200
        digest = hashlib.sha256(asset.body).digest()
        assert integrity == base64.b64encode(digest).decode()
        assert "immutable" in (asset.header("cache-control") or "")
        assert asset.header("x-content-type-options") == "nosniff"
        kind = "text/css" if path.endswith("css") else "text/javascript"
        assert (asset.header("content-type") or "").startswith(kind)


def test_nothing_else_is_served(here: Here) -> None:
    """No path leads to another file."""
    for path in ("/docs/", "/docs/SHA256SUMS", "/docs/0/page.js", "/docs/../app.py"):
        assert here.get(path).status == 404


def test_switched_off(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Neither the page nor its files nor the document; the API goes on."""
    with served_here(
        tmp_path, service_keys, clock, settings={"api_docs": False}
    ) as here:
        asset = hashlib.sha256((ASSETS / "page.js").read_bytes()).hexdigest()[:16]
        for path in ("/docs", "/openapi.json", f"/docs/{asset}/page.js"):
            assert here.get(path).status == 404
        assert here.get("/v1/accounts").status == 401


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_browser_renders_it(here: Here, tmp_path: Path) -> None:
    """Every call is on the page, and the browser refused nothing."""
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=10000",
        "--dump-dom",
        f"http://127.0.0.1:{here.port}/docs",
    ]

    done = subprocess.run(command, capture_output=True, timeout=100, check=True)

    page = done.stdout.decode()
    for path in here.get("/openapi.json").json["paths"]:
        assert f'data-path="{path}"' in page
    assert b"Content Security Policy" not in done.stderr
    assert b"CONSOLE" not in done.stderr
