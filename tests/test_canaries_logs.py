"""No secret in what operators see: JSON lines, metrics, probes, doctor.

The program runs with every logger at DEBUG, with an access log and metrics; planted
seed and token, and codes as they come, are searched in all that it tells.
"""

import json
import logging
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from server_fixture import (
    Server,
    call,
    code_at,
    environment,
    otpseal,
    sealed_to,
    serving,
    wrong_code_at,
)
from test_canaries import LOUD, PROGRAM, SEED, TOKEN, forms, found_in
from test_metrics import own_port

from otpseal.adapters.file_keys import RsaKeys
from otpseal.logs import JsonFormatter

METRICS_TOKEN = "CANARY-metrics-token-0123456789-abcdef"


@dataclass
class Told:
    """What a run told its operator."""

    server: Server
    pages: dict[str, bytes] = field(default_factory=dict)
    codes: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Told]:
    """Seeds, codes, right and wrong, in bodies, paths and headers; then all pages."""
    directory = tmp_path_factory.mktemp("told")
    for name, text in (("token", TOKEN), ("metrics", METRICS_TOKEN)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    settings: dict[str, object] = {
        "log_format": "json",
        "access_log": "on",
        "classic_access": "token",
        "classic_token_file": directory / "token",
        "metrics_token_file": directory / "metrics",
        "metrics_port": 0,
        "code_log": directory / "last_code.txt",
    }
    with serving(directory, service_keys, program=PROGRAM, **settings) as server:
        run = Told(server)
        _drive(run, service_keys)
        _ask(run, {**settings, "data_dir": directory / "data", "metrics_port": ""})
        yield run


def _drive(run: Told, keys: RsaKeys) -> None:
    server, seed = run.server, SEED.reveal()
    token = {"Authorization": f"Bearer {TOKEN}"}
    now = time.time()
    right, wrong = code_at(now, SEED), wrong_code_at(now, SEED)
    good = {"encrypted_seed": sealed_to(keys, SEED)}
    assert server.post("/decrypt-seed", good, token).status == 200
    assert call(server.port, "GET", "/generate-2fa", headers=token).status == 200
    for code in (right, right, wrong, right + " "):
        assert server.post("/verify-2fa", {"code": code}, token).status == 200
    for name, form in forms(seed).items():
        text = form.decode("latin-1").replace(" ", "%20").replace("\n", "")
        bad = {"encrypted_seed": text}
        assert server.post("/decrypt-seed", bad, token).status == 500, name
        for path in (f"/{text}", f"/health?seed={text}", f"/v1/accounts/{text}"):
            call(server.port, "GET", path)
        call(server.port, "GET", "/health", headers={"Cookie": text})
    for path in (f"/{right}", f"/verify-2fa?code={right}", f"/health?x={wrong}"):
        call(server.port, "POST", path, b"{}", token)
    run.codes = {"sealed seed": good["encrypted_seed"].encode()}
    for name, form in forms(METRICS_TOKEN.encode()).items():
        run.codes[f"metrics token, {name}"] = form
    for code in (right, wrong):
        # With what stands before it: six digits alone are in every time.
        for before in ('"', "'", " ", ":", "=", "/"):
            run.codes[f"code {before}{code}"] = f"{before}{code}".encode()


def _ask(run: Told, settings: dict[str, object]) -> None:
    server = run.server
    bearer = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    own = own_port(server.directory).port
    for name, port in (("main port", server.port), ("own port", own)):
        reply = call(port, "GET", "/metrics", None, bearer)
        assert reply.status == 200
        run.pages[f"/metrics, {name}"] = reply.body
    for path in ("/readyz", "/livez", "/health", "/openapi.json"):
        run.pages[path] = repr(server.get(path)).encode()
    given = {"key_file": server.key_file, **settings}
    for arguments in ([], ["--json"]):
        done = otpseal("doctor", *arguments, **given)
        assert "Traceback" not in done.stderr
        run.pages[f"doctor {arguments}"] = (done.stdout + done.stderr).encode()
    (server.directory / "data" / "seed.txt").write_text(SEED.reveal().hex())
    loud = subprocess.run(
        [*PROGRAM, "doctor"], env=environment(**given), capture_output=True, check=False
    )
    (server.directory / "data" / "seed.txt").unlink()
    run.pages["doctor, loud"] = loud.stdout + loud.stderr


def test_pages_hold_no_secret(told: Told) -> None:
    """Metrics on both ports, probes, doctor's table and JSON, at DEBUG too."""
    assert len(told.pages) == 9
    assert b"seed.txt" in told.pages["doctor, loud"]
    for name, page in told.pages.items():
        assert found_in(page, told.codes) == [], name


def test_json_lines_hold_no_secret(told: Told) -> None:
    """Every line of every logger; what the store's statements would be is there."""
    log = (told.server.directory / "err").read_bytes()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith(b"{")]

    assert {"otpseal.access", "sqlalchemy.engine.Engine"} <= {
        line["logger"] for line in lines
    }
    assert len([line for line in lines if line["logger"] == "otpseal.access"]) > 40
    assert found_in(log, told.codes) == []


def test_the_search_would_find_them(told: Told) -> None:
    """Negative control: the same line as text and not as JSON."""
    record = logging.makeLogRecord(
        {"name": "x", "msg": "got %r", "args": ({"seed": SEED.reveal().hex()},)}
    )

    assert "seed, hex" in found_in(logging.Formatter().format(record).encode(), {})
    line = JsonFormatter(lambda: None).format(record)
    assert found_in(line.encode(), {}) == []
    assert "basicConfig(level=logging.DEBUG" in LOUD
    assert told.codes
