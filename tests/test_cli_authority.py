"""`otpseal authority` and `otpseal seed request`, as processes."""

import contextlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from authority_fixtures import (
    REPOSITORY,
    STUDENT,
    ask,
    misbehaving,
    opened_by,
    pem_of,
    replying,
)

from otpseal.adapters.file_keys import (
    RsaKeys,
    load_keys,
    write_key_pair,
)
from otpseal.config import Settings
from otpseal.wiring import open_authority

SCRIPT = Path(__file__).parents[1] / "scripts" / "request_seed.py"
OTPSEAL = [sys.executable, "-m", "otpseal"]
SERVE = [*OTPSEAL, "authority", "serve", "--port", "0", "--key-bits", "3072"]
WITHIN_S = 60


def otpseal(
    directory: Path, *arguments: str, program: tuple[str, ...] = ("-m", "otpseal")
) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a directory."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return this process's environment, with a terminal wide enough."""
    return {**os.environ, "COLUMNS": "200"}


@dataclass
class Running:
    """An authority that runs."""

    process: "subprocess.Popen[str]"
    line: str
    port: int
    directory: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/"


@contextlib.contextmanager
def authority_in(directory: Path, *arguments: str) -> Iterator[Running]:
    """Run `otpseal authority serve` on a free port until the end of the block."""
    errors = directory / "authority.err"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*SERVE, *arguments],
            cwd=directory,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    watchdog = threading.Timer(WITHIN_S, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        assert "ready on" in line, errors.read_text()
        port = int(line.strip().rstrip("/").rpartition(":")[2])
        yield Running(process, line, port, directory)
    finally:
        watchdog.cancel()
        stop(process)
        process.stdout.close()


def stop(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Stop a process by SIGTERM; one that does not obey is a failure, but goes too."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One authority for the tests that only ask it."""
    with authority_in(tmp_path_factory.mktemp("authority")) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, service_keys: RsaKeys) -> Path:
    """A checkout of the exercise: a directory with student_public.pem."""
    (tmp_path / "student_public.pem").write_bytes(pem_of(service_keys))
    return tmp_path


def request_from(
    directory: Path, url: str, *more: str, student: str = STUDENT
) -> "subprocess.CompletedProcess[str]":
    """Run `otpseal seed request` in a directory."""
    given = ("--url", url, "--student-id", student, "--repo-url", REPOSITORY)
    return otpseal(directory, "seed", "request", *given, *more)


def test_the_ready_line_is_true(authority: Running) -> None:
    """When the line is printed the authority answers, where the line says."""
    assert authority.line == f"authority ready on {authority.url}\n"
    assert ask(authority.port, "GET").json["name"] == "otpseal authority"


def test_the_first_start_makes_a_key_and_says_so(authority: Running) -> None:
    """An empty directory gets a key pair, 0600 and 0644; stderr says what takes long.

    By default the store is in data/authority, apart from a service's.
    """
    keys = authority.directory / "data" / "authority" / "keys"
    private = keys / "instructor_private.pem"

    told = (authority.directory / "authority.err").read_text()

    assert "searching for the primes of an RSA-3072 key" in told
    assert load_keys(private).public_key.key_size == 3072
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE((keys / "instructor_public.pem").stat().st_mode) == 0o644


def test_a_page_elsewhere_cannot_reach_it_by_rebinding(authority: Running) -> None:
    """A foreign Host is refused: a browser's DNS cannot be trusted."""
    with socket.create_connection(("127.0.0.1", authority.port), 10) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert b" 403 " in caller.recv(4096).splitlines()[0]


def test_request_writes_the_sealed_seed(
    authority: Running, here: Path, service_keys: RsaKeys
) -> None:
    """The key in this directory is found; the file is 684 characters, no newline.

    The same request again gives the same seed, and replaces the file whole.
    """
    ran = request_from(here, authority.url)
    written = (here / "encrypted_seed.txt").read_text()
    before = (here / "encrypted_seed.txt").stat().st_ino

    again = request_from(here, authority.url)

    rewritten = (here / "encrypted_seed.txt").read_text()
    assert ran.returncode == again.returncode == 0, ran.stderr
    assert len(written) == 684
    assert service_keys.kid in ran.stdout
    assert opened_by(service_keys, written) == opened_by(service_keys, rewritten)
    assert (here / "encrypted_seed.txt").stat().st_ino != before
    assert {path.name for path in here.iterdir()} == {
        "student_public.pem",
        "encrypted_seed.txt",
    }


def test_request_prints_json_for_scripts(
    authority: Running, here: Path, service_keys: RsaKeys
) -> None:
    """--json prints where the seed went by --out, its length and the key."""
    ran = request_from(here, authority.url, "--json", "--out", "sealed", student="j")

    assert json.loads(ran.stdout) == {
        "out": "sealed",
        "characters": 684,
        "kid": service_keys.kid,
    }
    assert (here / "sealed").stat().st_size == 684


def test_request_finds_the_key_beside_the_services(
    authority: Running, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """Without a key in this directory, the configured service's is taken."""
    private = tmp_path / "data" / "keys" / "student_private.pem"
    write_key_pair(service_keys._private_key, private)

    ran = request_from(tmp_path, authority.url, student="configured")

    assert ran.returncode == 0, ran.stderr
    assert service_keys.kid in ran.stdout


def test_the_script_of_the_exercise(authority: Running, here: Path) -> None:
    """scripts/request_seed.py writes encrypted_seed.txt; --help shows the options."""
    given = ("--url", authority.url, "--student-id", "s", "--repo-url", REPOSITORY)
    ran = otpseal(here, *given, program=(str(SCRIPT),))
    helped = otpseal(here, "--help", program=(str(SCRIPT),))

    assert ran.returncode == 0, ran.stderr
    assert (here / "encrypted_seed.txt").stat().st_size == 684
    assert helped.returncode == 0
    for option in ("--url", "--student-id", "--repo-url", "--public-key", "--out"):
        assert option in helped.stdout


def test_the_address_comes_from_the_environment(
    authority: Running, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTPSEAL_AUTHORITY_URL stands for --url; with neither it is wrong usage."""
    given = ("seed", "request", "--student-id", "e", "--repo-url", REPOSITORY)
    without = otpseal(here, *given)
    monkeypatch.setenv("OTPSEAL_AUTHORITY_URL", authority.url)

    ran = otpseal(here, *given)

    assert ran.returncode == 0, ran.stderr
    assert without.returncode == 2
    assert "OTPSEAL_AUTHORITY_URL" in without.stderr


def test_a_failed_request_leaves_the_old_file(here: Path) -> None:
    """No connection: one clear line, exit 5, and encrypted_seed.txt as it was."""
    (here / "encrypted_seed.txt").write_text("old")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    ran = request_from(here, f"http://127.0.0.1:{port}/")

    assert ran.returncode == 5
    assert ran.stderr.splitlines()[-1].startswith("error: no connection to the")
    assert "Traceback" not in ran.stderr
    assert (here / "encrypted_seed.txt").read_text() == "old"


def test_a_wrong_answer_leaves_the_old_file(here: Path) -> None:
    """What is no sealed seed is not written."""
    (here / "encrypted_seed.txt").write_text("old")
    with misbehaving(replying({"status": "success", "encrypted_seed": "x"})) as server:
        ran = request_from(here, server.url)

    assert ran.returncode == 5
    assert "684 characters" in ran.stderr
    assert (here / "encrypted_seed.txt").read_text() == "old"


def test_no_public_key_is_a_clear_error(authority: Running, tmp_path: Path) -> None:
    """Without any key the message names the place and the command that makes one."""
    ran = request_from(tmp_path, authority.url)

    assert ran.returncode == 3
    assert "otpseal keys generate" in ran.stderr


@pytest.mark.parametrize("out", ["missing/seed.txt", "."])
def test_an_unwritable_place_is_a_clear_error(
    authority: Running, here: Path, out: str
) -> None:
    """A directory, or a place in none: the message says how to go on."""
    ran = request_from(here, authority.url, "--out", out, student="unwritable")

    assert ran.returncode == 2
    assert "name another place by --out" in ran.stderr
    assert [path.name for path in here.iterdir()] == ["student_public.pem"]


def test_rebind_is_the_way_out_of_a_lost_key(
    tmp_path: Path, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """409 names rebind; rebind works beside the running server, and is audited.

    The new key gets the same seed; the old one is refused from then on.
    """
    old, new = tmp_path / "old", tmp_path / "new"
    for directory, keys in ((old, service_keys), (new, other_keys)):
        directory.mkdir()
        (directory / "student_public.pem").write_bytes(pem_of(keys))
    with authority_in(tmp_path) as running:
        request_from(old, running.url)
        refused = request_from(new, running.url)
        rebound = otpseal(
            tmp_path,
            *("authority", "rebind", "--student-id", STUDENT),
            *("--repo-url", REPOSITORY, "--public-key", "new/student_public.pem"),
        )
        accepted = request_from(new, running.url)
        late = request_from(old, running.url, "--out", "late.txt")
    listed = otpseal(
        tmp_path,
        *("audit", "list", "--authority", "--json", "--data-dir", "data/authority"),
    )

    assert refused.returncode == 5
    assert "otpseal authority rebind" in refused.stderr
    assert rebound.stdout == f"bound to key {other_keys.kid}\n"
    assert accepted.returncode == 0, accepted.stderr
    assert opened_by(
        service_keys, (old / "encrypted_seed.txt").read_text()
    ) == opened_by(other_keys, (new / "encrypted_seed.txt").read_text())
    assert late.returncode == 5
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    (event,) = [one for one in found if one["kind"] == "authority.rebound"]
    assert event["detail"]["kid"] == other_keys.kid
    assert event["genuine"] is True


def test_rebind_never_makes_an_authority(here: Path) -> None:
    """In a wrong directory rebind says so and leaves nothing behind."""
    ran = otpseal(
        here,
        *("authority", "rebind", "--student-id", STUDENT, "--repo-url", REPOSITORY),
        *("--public-key", "student_public.pem"),
    )

    assert ran.returncode == 2
    assert "there is no store in data/authority" in ran.stderr
    assert [path.name for path in here.iterdir()] == ["student_public.pem"]


def test_the_audit_log_of_no_authority(here: Path) -> None:
    """Listing in a wrong directory says so; it does not search for a key first."""
    ran = otpseal(here, "audit", "list", "--authority")

    assert ran.returncode == 2
    assert "there is no store in data/authority" in ran.stderr
    assert [path.name for path in here.iterdir()] == ["student_public.pem"]


def test_rebind_of_an_unknown_pair(here: Path) -> None:
    """A pair without a seed is refused with exit 1."""
    settings = Settings(data_dir=here / "data" / "authority")
    with open_authority(settings, new_key_bits=3072):
        pass

    ran = otpseal(
        here,
        *("authority", "rebind", "--student-id", STUDENT, "--repo-url", REPOSITORY),
        *("--public-key", "student_public.pem"),
    )

    assert ran.returncode == 1
    assert "byte for byte" in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C: exit 0, no traceback."""
    with authority_in(tmp_path) as running:
        running.process.send_signal(number)

        assert running.process.wait(10) == 0
    assert "Traceback" not in (tmp_path / "authority.err").read_text()


def test_a_second_start_keeps_key_and_seeds(
    tmp_path: Path, here: Path, service_keys: RsaKeys
) -> None:
    """Nothing is made anew: the same key, the same seed, no search for primes."""
    seeds, keys = [], []
    for _ in range(2):
        with authority_in(tmp_path, "--data-dir", "elsewhere") as running:
            assert request_from(here, running.url).returncode == 0
        seeds.append(opened_by(service_keys, (here / "encrypted_seed.txt").read_text()))
        private = tmp_path / "elsewhere" / "keys" / "instructor_private.pem"
        keys.append(load_keys(private).kid)

    assert seeds[0] == seeds[1]
    assert keys[0] == keys[1]
    assert "primes" not in (tmp_path / "authority.err").read_text()


def test_a_taken_port_is_told_before_a_key_is_made(tmp_path: Path) -> None:
    """A wrong port does not cost the search for primes: exit 2 at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = otpseal(tmp_path, "authority", "serve", "--port", port)

    assert ran.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bits", "limit"), [("3071", "3072"), ("8193", "8192")])
def test_key_sizes_out_of_policy_are_wrong_usage(
    tmp_path: Path, bits: str, limit: str
) -> None:
    """--key-bits takes what the key policy takes."""
    ran = otpseal(tmp_path, "authority", "serve", "--key-bits", bits)

    assert ran.returncode == 2
    assert limit in ran.stderr


def test_people_see_a_spinner(tmp_path: Path) -> None:
    """On a terminal the search for primes is shown and cleared away again."""
    ours, theirs = pty.openpty()
    shown = b""
    with authority_with_stderr(tmp_path, theirs):
        os.close(theirs)
        with contextlib.suppress(OSError):  # the terminal's other end was closed
            while chunk := os.read(ours, 4096):
                shown += chunk
                if b"\x1b[?25h" in shown:  # the cursor is back
                    break
    os.close(ours)

    assert b"searching for the primes of an RSA-3072 key ..." in shown
    assert b"this may take a while" not in shown


@contextlib.contextmanager
def authority_with_stderr(directory: Path, stderr: int) -> Iterator[None]:
    """Run an authority whose stderr is a terminal."""
    process = subprocess.Popen(
        SERVE,
        cwd=directory,
        env={**environment(), "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    watchdog = threading.Timer(WITHIN_S, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        stop(process)
