"""/metrics: what was done is counted, who did it is not, and not everyone sees it."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TurnedClock
from prometheus_client.parser import text_string_to_metric_families
from server_fixture import (
    OTHER_SEED,
    Api,
    Here,
    call,
    otpseal,
    sealed_to,
    served_here,
    serving,
)
from test_committer import service_on
from test_http_faults import FaultyStore, store_of, unavailable
from test_store_contract import make_sqlite

from otpseal.adapters.file_keys import RsaKeys
from otpseal.committer import Committer
from otpseal.errors import OtpsealError
from otpseal.http.limits import WorkQueue
from otpseal.http.metrics import Metrics
from otpseal.service import Attempt
from otpseal.verification import Decision, Outcome

TOKEN = "metrics-token-0123456789-abcdefghij"
OUTCOMES = ("accepted", "replayed", "malformed", "wrong", "throttled", "disabled")
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def samples(page: bytes) -> dict[str, float]:
    """Return the samples of a page, each by its name with labels."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the token."""
    path = tmp_path / "metrics-token"
    path.write_text(TOKEN)
    return path


@pytest.fixture
def here(
    tmp_path: Path, token_file: Path, service_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Here]:
    """A service that shows its numbers on its port."""
    settings = {
        "metrics_token_file": token_file,
        "code_log": tmp_path / "last_code.txt",
    }
    with served_here(
        tmp_path, service_keys, clock, settings=settings, wrap=FaultyStore
    ) as running:
        yield running


def shown(api: Api) -> dict[str, float]:
    """Return the samples that a service shows."""
    reply = call(api.port, "GET", "/metrics", None, BEARER)
    assert 200 == reply.status
    return samples(reply.body)


def test_everything_is_counted(here: Here, service_keys: RsaKeys) -> None:
    """Each decision by its outcome, each refusal by its code, each seed's time."""
    assert 500 == here.verify(here.right()).status
    assert 200 == here.bring(sealed_to(service_keys)).status
    assert 409 == here.bring(sealed_to(service_keys, OTHER_SEED)).status
    assert 500 == here.bring("AAAA").status
    assert 200 == here.verify(here.right()).status
    for code in (here.right(), "x", here.wrong(), here.wrong()):
        assert 200 == here.verify(code).status
    assert 422 == here.verify(1).status
    store_of(here).before = unavailable
    assert 503 == here.verify(here.wrong()).status
    store_of(here).before = lambda: None

    found = shown(here)

    assert {
        "accepted": 1,
        "replayed": 1,
        "malformed": 1,
        "wrong": 2,
        "throttled": 0,
        "disabled": 0,
    } == {
        outcome: found[f"otpseal_decisions_total{{outcome={outcome}}}"]
        for outcome in OUTCOMES
    }
    for code in ("seed_missing", "seed_conflict", "unseal_failed", "http_422"):
        assert 1 == found[f"otpseal_refusals_total{{code={code}}}"], code
    assert 1 == found["otpseal_refusals_total{code=store_unavailable}"]
    assert 6 == found["otpseal_batch_size_sum{}"]  # the unavailable store's is none
    assert 6 == found["otpseal_commit_seconds_count{}"]
    assert 0 < found["otpseal_commit_seconds_sum{}"] < 600
    assert 3 == found["otpseal_decrypt_seconds_count{}"]
    assert 0 == found["otpseal_waiting{queue=attempts}"]
    assert 0 == found["otpseal_waiting{queue=decryptions}"]
    assert any(re.match(r"otpseal_build_info\{.*version=", name) for name in found)


def test_outcomes_are_all_told_from_the_start(here: Here) -> None:
    """At 0: a rate needs a beginning."""
    found = shown(here)

    for outcome in Outcome:
        name = outcome.name.lower()
        assert 0 == found[f"otpseal_decisions_total{{outcome={name}}}"]


def test_the_code_logs_age(here: Here, tmp_path: Path, clock: TurnedClock) -> None:
    """Read when it is asked for; infinite without a line."""
    name = "otpseal_code_log_age_seconds{}"
    assert float("inf") == shown(here)[name]

    (tmp_path / "last_code.txt").write_text("2027-01-15 08:00:00 - 2FA Code: 123456\n")
    assert 0 == shown(here)[name]
    clock.turn(90)
    assert 90 == shown(here)[name]


def test_labels_name_nobody(here: Here, service_keys: RsaKeys) -> None:
    """Neither accounts nor callers; the labels are a closed set."""
    here.bring(sealed_to(service_keys))
    here.verify(here.wrong())
    here.verify(1)

    page = call(here.port, "GET", "/metrics", None, BEARER).body.decode()

    labels = set(re.findall(r'([a-z]+)="', page))
    assert {"outcome", "queue", "code", "version", "python", "le"} == labels
    assert '"default"' not in page
    assert "127.0.0.1" not in page


# Who sees it.


def test_the_main_port_wants_the_token(here: Here) -> None:
    """401 without it; text of Prometheus with it, cached by nobody."""
    assert 401 == here.get("/metrics").status
    bad = {"Authorization": f"Bearer {TOKEN}x"}
    assert 401 == call(here.port, "GET", "/metrics", None, bad).status
    assert 405 == call(here.port, "POST", "/metrics", b"", BEARER).status

    reply = call(here.port, "GET", "/metrics", None, BEARER)
    assert "text/plain; version=0.0.4; charset=utf-8" == reply.header("content-type")
    assert "no-store" == reply.header("cache-control")


def test_without_settings_there_is_none(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """404, also for who holds some token."""
    with served_here(tmp_path, service_keys, clock) as here:
        assert 404 == here.get("/metrics").status
        assert 404 == call(here.port, "GET", "/metrics", None, BEARER).status


def own_port(directory: Path) -> Api:
    """Return the metrics' own port as the program told it."""
    out = (directory / "out").read_text()
    found = re.search(r"^otpseal metrics on http://127\.0\.0\.1:(\d+)/metrics$", out, 8)
    assert found, out
    return Api(int(found[1]))


def test_a_port_of_its_own(tmp_path: Path, service_keys: RsaKeys) -> None:
    """There and not on the main port; nothing else is there; no page of a browser's."""
    with serving(tmp_path, service_keys, metrics_port=0) as server:
        own = own_port(tmp_path)
        assert 200 == server.bring(sealed_to(service_keys)).status
        assert 200 == server.verify("000000").status

        found = samples(own.get("/metrics").body)
        assert 1 == found["otpseal_batch_size_count{}"]
        assert 404 == server.get("/metrics").status
        assert 404 == own.get("/health").status == own.get("/generate-2fa").status
        evil = {"Host": "evil.example.com"}
        assert 403 == call(own.port, "GET", "/metrics", None, evil).status
        assert 0 == server.stop()


def test_a_port_of_its_own_with_a_token(
    tmp_path: Path, token_file: Path, service_keys: RsaKeys
) -> None:
    """Then both ports want it."""
    settings = {"metrics_port": 0, "metrics_token_file": token_file}
    with serving(tmp_path, service_keys, **settings) as server:
        for port in (server.port, own_port(tmp_path).port):
            assert 401 == call(port, "GET", "/metrics").status
            assert 200 == call(port, "GET", "/metrics", None, BEARER).status


def test_what_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    """A port that is taken, a token that is too short: by the setting's name."""
    (tmp_path / "short").write_text("short")
    done = otpseal("serve", data_dir=tmp_path, metrics_token_file=tmp_path / "short")
    assert 2 == done.returncode
    assert "the token in OTPSEAL_METRICS_TOKEN_FILE is shorter" in done.stderr

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = otpseal("serve", data_dir=tmp_path, port=0, metrics_port=port)
    assert 2 == done.returncode
    assert "OTPSEAL_METRICS_HOST and OTPSEAL_METRICS_PORT" in done.stderr
    assert not (tmp_path / "keys").exists()  # before the long search for a key


# The parts.


class Noted:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, float, int]] = []
        self.works: list[tuple[float, int]] = []

    def batch(
        self, results: list[Decision | OtpsealError], seconds: float, waiting: int
    ) -> None:
        """Keep it."""
        self.batches.append((len(results), seconds, waiting))

    def work(self, seconds: float, waiting: int) -> None:
        """Keep it."""
        self.works.append((seconds, waiting))


def test_one_observation_a_batch(tmp_path: Path) -> None:
    """Told once for many attempts, with what came meanwhile."""
    first, rest = threading.Event(), threading.Event()

    def clock() -> float:
        first.set()
        rest.wait(20)
        return 1_800_000_000.0

    noted = Noted()
    with closing(make_sqlite(tmp_path)) as store:
        committer = Committer(service_on(store, clock), noted)
        futures = [committer.submit(Attempt("000000"))]
        assert first.wait(20)
        futures += [committer.submit(Attempt("000000")) for _ in range(9)]
        rest.set()
        for future in futures:
            assert isinstance(future.exception(20), OtpsealError)
        committer.close()

    assert [(1, 9), (9, 0)] == [(size, wait) for size, _, wait in noted.batches]
    assert all(seconds > 0 for _, seconds, _ in noted.batches)


def test_work_is_observed() -> None:
    """Its time and how many wait, also when it fails."""
    import asyncio

    noted = Noted()
    queue = WorkQueue(at_a_time=1, observer=noted)

    async def ask() -> None:
        await asyncio.gather(
            *[queue.run(divmod, 1, number) for number in (1, 0, 1)],
            return_exceptions=True,
        )

    asyncio.run(ask())
    queue.close()

    assert [2, 1, 0] == [waiting for _, waiting in noted.works]


SHARED = """
import sys
from otpseal.http.metrics import Metrics
from otpseal.account_state import State
from otpseal.verification import Decision, Outcome
metrics = Metrics(clock=lambda: 0.0, code_log=None)
metrics.batch([Decision(Outcome.ACCEPTED, State())] * int(sys.argv[1]), 0.01, 2)
metrics.refused("overloaded")
metrics.work(0.01, 0)
sys.stdout.buffer.write(metrics.page())
"""
PARENT = """
import os, sys
from otpseal.http.metrics import SHARED_DIRECTORY, forget_worker, shared_page
directory = os.environ[SHARED_DIRECTORY]
for pid in sys.argv[1:]:
    forget_worker(int(pid), directory)
sys.stdout.buffer.write(shared_page(directory))
"""


def test_several_workers_are_summed(tmp_path: Path) -> None:
    """Each shows what all did, and so does a parent that did nothing itself."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(program: str, *arguments: str) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environment,
            capture_output=True,
            check=True,
        )
        return samples(done.stdout)

    run(SHARED, "2")
    second = run(SHARED, "3")
    parent = run(PARENT)

    for found in (second, parent):
        assert 5 == found["otpseal_decisions_total{outcome=accepted}"]
        assert 0 == found["otpseal_decisions_total{outcome=wrong}"]
        assert 2 == found["otpseal_refusals_total{code=overloaded}"]
        assert 2 == found["otpseal_batch_size_count{}"]
        assert any(name.startswith("otpseal_build_info{") for name in found)
    assert 4 == parent["otpseal_waiting{queue=attempts}"]

    pids = {path.stem.rpartition("_")[2] for path in tmp_path.glob("*livesum_*.db")}
    assert 2 == len(pids)
    after = run(PARENT, *pids)
    assert "otpseal_waiting{queue=attempts}" not in after
    assert 5 == after["otpseal_decisions_total{outcome=accepted}"]


def test_two_apps_in_a_process_do_not_share() -> None:
    """A registry of its own each: no global state."""
    one, two = (Metrics(clock=lambda: 0.0, code_log=None) for _ in range(2))
    one.refused("overloaded")

    assert "otpseal_refusals_total{code=overloaded}" in samples(one.page())
    assert "otpseal_refusals_total{code=overloaded}" not in samples(two.page())
