"""`otpseal serve --workers N`: one listener, many workers, one parent to end them."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from repetitions import rounds
from server_fixture import (
    OTPSEAL,
    Server,
    at_once,
    children,
    code_at,
    environment,
    is_running,
    otpseal,
    sealed_to,
    serving,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.cli.workers import MAX_DEATHS

#: Long enough for what happens by itself; only a test that fails waits so long.
PATIENCE_S = 60.0

pytestmark = pytest.mark.timeout(300)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def storage_keys(server: Server) -> tuple[int, int]:
    """Return how many the store has, and how often one was made."""
    path = server.directory / "data" / "otpseal.db"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((count,),) = db.execute("SELECT count(*) FROM storage_keys").fetchall()
        ((made,),) = db.execute(
            "SELECT count(*) FROM audit_events WHERE kind = 'store.created'"
        ).fetchall()
    return count, made


def test_all_workers_answer_on_one_listener(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """One ready line; a code is accepted once, whichever worker is asked."""
    with serving(tmp_path, service_keys, workers=3) as server:
        assert 3 == len(children(server.process.pid))
        assert server.bring(sealed_to(service_keys)).status == 200
        code = code_at(time.time())

        replies = at_once(*[lambda: server.verify(code).json["valid"]] * 12)

        assert [False] * 11 + [True] == sorted(replies)
        assert f"otpseal ready on {server.url}\n" == server.log()
        assert 0 == server.stop()


def test_a_worker_that_dies_is_replaced(tmp_path: Path, service_keys: RsaKeys) -> None:
    """By SIGKILL or SIGTERM, again and again; others answer meanwhile; no zombies."""
    with serving(tmp_path, service_keys, workers=2) as server:
        parent = server.process.pid
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            before = children(parent)
            victim = min(before)
            os.kill(victim, number)
            until(lambda gone=victim: gone not in children(parent))  # type: ignore[misc]
            assert server.get("/health").status == 200
            until(lambda: len(children(parent)) == 2)
            assert children(parent) > before - {victim}

        workers = children(parent)
        assert 0 == server.stop()
        assert not any(map(is_running, workers))


def test_workers_do_not_outlive_their_parent(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """SIGKILL to the parent alone: all of them end, and the port is free."""
    with serving(tmp_path, service_keys, workers=2) as server:
        workers = children(server.process.pid)
        server.process.kill()
        server.process.wait()

        until(lambda: not any(map(is_running, workers)))
        with pytest.raises(ConnectionError):
            server.get("/health")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on(
    tmp_path: Path, service_keys: RsaKeys, number: signal.Signals
) -> None:
    """The parent waits for its workers and exits 0, with nothing to say."""
    with serving(tmp_path, service_keys, workers=2) as server:
        workers = children(server.process.pid)
        server.process.send_signal(number)

        assert 0 == server.process.wait(PATIENCE_S)
        assert not any(map(is_running, workers))
        assert f"otpseal ready on {server.url}\n" == server.log()


def test_a_worker_that_does_not_stop_is_killed(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """A second SIGTERM kills at once, and one is enough after the grace."""
    took = {}
    for signals in (2, 1):
        with serving(tmp_path, service_keys, workers=2) as server:
            workers = children(server.process.pid)
            os.kill(min(workers), signal.SIGSTOP)
            began = time.monotonic()
            for _ in range(signals):
                server.process.terminate()
                time.sleep(0.5)

            assert 0 == server.process.wait(PATIENCE_S)
            assert not any(map(is_running, workers))
            took[signals] = time.monotonic() - began
    assert took[2] < took[1]


def test_a_refusal_to_start_ends_all(tmp_path: Path, service_keys: RsaKeys) -> None:
    """One message, the exit code of that error, whatever the number of workers."""
    with serving(tmp_path, service_keys) as server:
        key_file = server.key_file
    missing = tmp_path / "missing.pem"
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "otpseal.db").write_bytes(os.urandom(50_000))
    cases: list[tuple[int, dict[str, object]]] = [
        (2, {"classic_access": "token"}),
        (2, {"tls_cert_file": key_file}),
        (2, {"tls_cert_file": missing, "tls_key_file": missing}),
        (3, {"tls_cert_file": key_file, "tls_key_file": missing}),
        (3, {"key_file": missing}),
        (4, {"data_dir": damaged}),
    ]
    for code, settings in cases:
        given = {"data_dir": tmp_path / "data", "key_file": key_file, **settings}

        one = otpseal("serve", "--port", "0", **given)
        many = otpseal("serve", "--port", "0", "--workers", "3", **given)

        assert (code, "", one.stderr) == (many.returncode, many.stdout, many.stderr)
        assert 1 == many.stderr.count("error: ")


def test_workers_that_only_die_end_all(tmp_path: Path, service_keys: RsaKeys) -> None:
    """Each killed before it is ready: a bounded number of tries, exit code 1."""
    started: set[int] = set()
    process = subprocess.Popen(
        [*OTPSEAL, "serve", "--port", "0"],
        env=environment(data_dir=tmp_path / "data", workers=2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:
        for worker in children(process.pid):
            started.add(worker)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.01)
    out, err = process.communicate()

    assert (1, "") == (process.returncode, out)
    assert "error: the workers die one after the other" in err
    assert MAX_DEATHS <= len(started) <= MAX_DEATHS + 2


def test_one_that_cannot_come_back_does_not_end_the_others(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """The key is gone when a worker dies: the other answers, and says why not."""
    with serving(tmp_path, service_keys, workers=2) as server:
        away = server.key_file.with_name("away")
        server.key_file.rename(away)
        os.kill(min(children(server.process.pid)), signal.SIGKILL)

        until(lambda: "OTPSEAL_KEY_FILE" in server.log())
        assert server.get("/health").status == 200
        away.rename(server.key_file)
        until(lambda: len(children(server.process.pid)) == 2)
        assert server.get("/health").status == 200
        assert 0 == server.stop()


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_eight_workers_on_an_empty_store(tmp_path: Path, service_keys: RsaKeys) -> None:
    """All start at once: one key pair, one storage key, all answer."""
    for number in rounds(1, full=50):
        directory = tmp_path / str(number)
        made = directory / "made" / "student_private.pem"
        directory.mkdir()
        with serving(directory, service_keys, workers=8, key_file=made) as server:
            assert 8 == len(children(server.process.pid))
            names = sorted(path.name for path in made.parent.iterdir())
            assert ["student_private.pem", "student_public.pem"] == names
            assert (1, 1) == storage_keys(server)
            assert 1 == server.log().count("INFO making an RSA-4096 key")
            replies = at_once(*[lambda here=server: here.get("/health").status] * 32)
            assert [200] * 32 == replies
            assert 0 == server.stop()
        assert "Traceback" not in server.log()
