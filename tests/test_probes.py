"""The probes: /livez answers whatever is wrong, /readyz says what is."""

import fcntl
import signal
import socket
import time
from pathlib import Path

import pytest
from conftest import TurnedClock
from server_fixture import (
    Here,
    Reply,
    _in_a_thread,
    call,
    opened_over,
    parse_reply,
    read_all,
    read_one,
    served_here,
    serving,
)
from test_http_faults import FaultyStore, store_of, unavailable

from otpseal.adapters.file_keys import RsaKeys
from otpseal.config import Settings
from otpseal.http.app import create_app
from otpseal.http.probes import Readiness
from otpseal.ports import Store

OK = (200, b'{"status":"ok"}')
STOPPING = (503, b'{"status":"stopping","reason":"the service is stopping"}')
BOTH = ["/livez", "/readyz"]


def said(reply: Reply) -> tuple[int, bytes]:
    """Return status and body."""
    return reply.status, reply.body


def test_all_is_well(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> None:
    """200, cached by nobody, and not for clients: the document is silent."""
    with served_here(tmp_path, service_keys, clock) as here:
        live, ready = here.get("/livez"), here.get("/readyz")

        assert (200, b"ok") == said(live)
        assert OK == said(ready)
        for reply in (live, ready):
            assert "no-store" == reply.header("cache-control")
        for path in BOTH:
            assert 405 == call(here.port, "POST", path, b"{}").status
            assert path not in here.get("/openapi.json").json["paths"]


def test_a_store_that_fails(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """/readyz says what /health says; /livez does not even look."""

    def failing(store: Store) -> FaultyStore:
        faulty = FaultyStore(store)
        faulty.before = unavailable
        return faulty

    with served_here(tmp_path, service_keys, clock, wrap=failing) as here:
        for _ in range(1000):  # the housekeeping of the start, the only one
            if store_of(here).transactions:
                break
            time.sleep(0.02)
        assert [(200, b"ok")] * 5 == [said(here.get("/livez")) for _ in range(5)]
        assert 1 == store_of(here).transactions

        ready = here.get("/readyz")

        reason = b'{"status":"degraded","reason":"store unavailable"}'
        assert (503, reason) == said(ready)
        assert here.get("/health").body == ready.body


@pytest.mark.parametrize("path", BOTH)
def test_probes_need_no_token_but_an_honest_host(
    path: str, tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """As /health: no token where there is one, the guard where there is none."""
    token = tmp_path / "token"
    token.write_text("t" * 40)
    evil = {"Host": "evil.example.com"}
    guarded = {"classic_access": "token", "classic_token_file": token}

    def ask(here: Here, asked: str) -> int:
        return call(here.port, "GET", asked, None, evil).status

    with served_here(tmp_path, service_keys, clock, settings=guarded) as here:
        assert 200 == here.get(path).status == ask(here, path)
        assert 401 == here.get("/generate-2fa").status
    with served_here(tmp_path, service_keys, clock) as here:
        assert 403 == ask(here, path) == ask(here, "/health")


def test_stopping_is_not_ready(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """503 from the signal on, whatever the store says; the process still lives."""
    readiness = Readiness()
    settings = Settings(data_dir=tmp_path)
    with (
        opened_over(tmp_path, service_keys, clock) as opened,
        _in_a_thread(create_app(opened, settings, readiness=readiness)) as port,
    ):
        assert OK == said(call(port, "GET", "/readyz"))
        readiness.stop()

        assert STOPPING == said(call(port, "GET", "/readyz"))
        assert (200, b"ok") == said(call(port, "GET", "/livez"))
        assert OK == said(call(port, "GET", "/health"))


def test_sigterm_stops_being_ready(tmp_path: Path, service_keys: RsaKeys) -> None:
    """A probe that is under way when the signal comes is told, and the exit is 0."""
    request = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        serving(tmp_path, service_keys) as server,
        (tmp_path / "data" / "store.lock").open("r+b") as lock,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as probe,
    ):
        probe.sendall(request % b"/livez")
        assert b" 200 " in read_one(probe)
        fcntl.flock(lock, fcntl.LOCK_EX)  # the probe has to wait for the store
        probe.sendall(request % b"/readyz")
        assert 200 == server.get("/livez").status  # came later, so the probe is read

        server.process.send_signal(signal.SIGTERM)

        assert STOPPING == said(parse_reply(read_all(probe)))
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert 0 == server.process.wait(20)
