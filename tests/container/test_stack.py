"""The composed service from its first start on; the tests build on each other."""

import json
import re
import shlex
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from container.harness import (
    CA_FILE,
    LINE,
    MINUTE,
    SEALED_SEED,
    UID,
    Answer,
    Process,
    Stack,
    docker,
    minute_of,
    wait_for,
    wait_until_second,
)

pytestmark = pytest.mark.timeout(600)

ROOT_MAY_RUN = re.compile(r"(s6-svscan|s6-supervise|cron|/usr/sbin/cron|CRON)\b")
JOB = re.compile(r"/opt/otpseal/venv/bin/python\S* /app/scripts/log_2fa_cron.py$")


def test_up_is_healthy(fresh: Stack) -> None:
    """From empty volumes to the engine's own `healthy`, and no seed yet."""
    fresh.wait_healthy(within_s=120)

    assert Answer(200, b'{"status":"ok"}') == fresh.request("GET", "/health")
    assert Answer(500, b'{"error":"Seed not decrypted yet"}') == fresh.request(
        "GET", "/generate-2fa"
    )


def test_seed_comes_from_the_authority(stack: Stack) -> None:
    """Sealed by the authority's container, opened and served by this one."""
    answer = stack.request("GET", "/generate-2fa")

    assert answer.status == 200
    assert re.fullmatch(r"[0-9]{6}", answer.json["code"])
    assert 1 <= answer.json["valid_for"] <= 30


def test_the_authority_speaks_tls_alone(stack: Stack) -> None:
    """Known by its CA's file; without it, and by plain http, no request is made."""

    def asked(*where: str) -> str:
        out = ("--student-id", "s", "--repo-url", "r", "--out", "/tmp/none.txt")
        request = shlex.join(["otpseal", "seed", "request", "--url", *where, *out])
        return stack.sh(f"{request} 2>&1 || :")

    assert "certificate" in asked("https://authority:8081/")
    assert "error:" in asked("http://authority:8081/", "--insecure-http")
    assert "No such file" in stack.sh("ls /tmp/none.txt 2>&1 || :")
    # The key that vouches for it is not the service's to read.
    assert stack.sh("ls -A /ca /tls") == "/ca:\nca.pem\n\n/tls:\n"


def test_enrolment_over_tls(stack: Stack) -> None:
    """Authority and service, each in its container: ticket, envelope, code, receipt."""
    name = "authority"
    stack.otpseal("authority", "init", service=name)
    docker("restart", stack.container(name))
    stack.wait_healthy(name, within_s=120)
    stack.otpseal("authority", "subscriber", "add", "shop", service=name)
    ticket = stack.otpseal("authority", "ticket", "shop", "shop/alice", service=name)
    key_set = stack.sh("cat /keys/authority_jwks.json", service=name)
    ticket_file, key_set_file = "/tmp/ticket", "/tmp/authority_jwks.json"
    for path, content in ((ticket_file, ticket.strip()), (key_set_file, key_set)):
        stack.sh(f"umask 077; printf %s {shlex.quote(content)} > {path}")

    stack.otpseal("authority", "trust", "add", "authority", key_set_file)
    said = stack.otpseal(
        *("seed", "enrol", "https://authority:8081/", "--ca-file", CA_FILE),
        *("--ticket-file", ticket_file, "--receipt-out", "/tmp/receipt.jws"),
    )

    assert "the seed of shop/alice by authority is stored" in said
    assert "confirmed" in stack.otpseal("authority", "status", service=name)
    code = stack.otpseal("code", "--account", "shop/alice")[:6]
    verified = stack.otpseal("verify", "--account", "shop/alice", code)
    assert verified == "valid\n"


def test_the_same_sealed_seed_again_changes_nothing(stack: Stack) -> None:
    """`POST /decrypt-seed` takes it over the published port, as often as it comes."""
    sealed = stack.sh(f"cat {SEALED_SEED}")

    answer = stack.request("POST", "/decrypt-seed", {"encrypted_seed": sealed})

    assert Answer(200, b'{"status":"ok"}') == answer


def test_a_code_is_accepted_once(stack: Stack) -> None:
    """`POST /verify-2fa` says true once, false to the replay and to another code."""
    code = stack.spend_code()

    assert not stack.verify(code)
    assert not stack.verify("000000" if code != "000000" else "000001")


def test_the_command_line_uses_the_same_store(stack: Stack) -> None:
    """`docker compose exec service otpseal code` shows what the API shows."""

    def same() -> bool:
        return stack.current_code() in stack.otpseal("code")

    # A step may end between the two questions; it does not end twice.
    assert same() or same()


def test_nothing_but_the_supervisor_and_cron_is_root(stack: Stack) -> None:
    """Over a start of the job: only s6 and cron live as root, the job is otpseal's."""
    first: dict[Process, float] = {}
    last: dict[Process, float] = {}

    def jobs() -> set[int]:
        return {p.uid for p in last if JOB.match(p.command)}

    wait_until_second(54, 57)
    begun = time.monotonic()
    while time.monotonic() < begun + 12 or (
        not jobs() and time.monotonic() < begun + 60
    ):
        for process in stack.processes():
            last[process] = time.monotonic()
            first.setdefault(process, last[process])
        time.sleep(0.2)

    # What the engine runs inside, a health check for one, is root for the moment until
    # it has become otpseal.
    root = [p for p in last if p.uid == 0 and last[p] - first[p] > 3]
    assert [p.command for p in root if not ROOT_MAY_RUN.match(p.command)] == []
    assert {p.uid for p in last} == {0, UID}
    assert {p.uid for p in last if "otpseal serve" in p.command} == {UID}
    assert jobs() == {UID}


def test_the_authority_was_never_root(stack: Stack) -> None:
    """The authority runs as uid 10001 from PID 1 on."""
    assert {process.uid for process in stack.processes("authority")} == {UID}


def test_the_restrictions_are_in_force(stack: Stack) -> None:
    """Read-only root, two capabilities at most, no way to new privileges."""
    status = "grep -hE '^(CapEff|CapBnd|NoNewPrivs)' /proc/{}/status"
    setgid_setuid = "00000000000000c0"

    root = stack.sh(status.format(1), user="root").split()
    api = stack.sh(status.format(stack.supervised_pid("api"))).split()

    assert root[:4] == ["CapEff:", setgid_setuid, "CapBnd:", setgid_setuid]
    assert root[4:] == ["NoNewPrivs:", "1"]
    assert api[:2] == ["CapEff:", "0" * 16]
    assert api[4:] == ["NoNewPrivs:", "1"]
    for path in ("/probe", "/opt/otpseal/probe", "/app/probe", "/etc/cron.d/probe"):
        assert "Read-only file system" in stack.sh(
            f"touch {path} 2>&1 || :", user="root"
        )
    assert "Permission denied" in stack.sh("ls /keys 2>&1 || :", user="root")
    assert stack.sh("stat -c '%a %u' /keys/student_private.pem") == f"600 {UID}\n"


def test_the_port_is_published_to_loopback_only(stack: Stack) -> None:
    """Nobody outside this host reaches the open API."""
    bindings = json.loads(stack.inspect("{{json .NetworkSettings.Ports}}"))

    assert {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]} == {
        port: hosts for port, hosts in bindings.items() if hosts
    }


@pytest.mark.parametrize("service", ["cron", "api", "job-output", "syslog"])
def test_what_dies_is_back_within_five_seconds(stack: Stack, service: str) -> None:
    """`kill -9` of a supervised process: another one has taken its place."""
    # Not across the start of a minute: the log below is to have no gap.
    wait_until_second(5, 50)
    before = stack.supervised_pid(service)
    owner = "root" if service == "cron" else "otpseal"

    stack.sh(f"kill -9 {before}", user=owner)

    after = wait_for(
        f"another {service}",
        lambda: stack.supervised_pid(service) not in (0, before),
        within_s=5,
    )
    assert after
    wait_for("the API", stack.answers, within_s=30)


def test_cron_is_heard(stack: Stack) -> None:
    """What cron says to syslog, complaints about its table too, is in the output."""
    assert re.search(r"cron\[\d+\]: \(CRON\)", stack.logs())


def test_one_line_a_minute_and_nothing_else(stack: Stack) -> None:
    """Four lines in a row: each exactly as the contract says, each minute once."""
    wait_for("four lines", lambda: len(stack.log_lines()) >= 4, within_s=270)

    log = stack.code_log()
    lines = log.splitlines()
    minutes = [minute_of(line) for line in lines]

    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert log.endswith("\n")
    assert [minutes[0] + i * MINUTE for i in range(len(minutes))] == minutes
    assert minutes[-1] - minutes[0] >= 3 * MINUTE


def test_the_code_log_is_not_for_everyone(stack: Stack) -> None:
    """Mode 0640 or stricter, and otpseal's."""
    mode, uid = stack.sh("stat -c '%a %u' /cron/last_code.txt").split()

    assert int(mode, 8) & ~0o640 == 0
    assert int(uid) == UID


@pytest.mark.parametrize("how", ["restart", "down and up"])
def test_state_outlives_the_container(stack: Stack, how: str) -> None:
    """Seed, spent step and code log are there after a restart and a re-creation."""

    def restart() -> None:
        if how == "restart":
            docker("restart", stack.container())
        else:
            stack.down()
            stack.up("service", "authority")
        wait_for("the API", stack.answers, within_s=60)

    def a_spent_code_is_a_replay_after_restart() -> bool:
        code = stack.spend_code()
        spent = stack.account()
        restart()
        assert not stack.verify(code)
        now = stack.account()
        assert now["last_step"] == spent["last_step"]
        # A replay costs no attempt. On a slow machine the code may have left the
        # window, and then it was just wrong: that proves nothing.
        return bool(now["consecutive_failures"] == 0)

    log_before = stack.code_log()

    assert any(a_spent_code_is_a_replay_after_restart() for _ in range(3))
    assert stack.code_log().startswith(log_before)
    assert log_before


def test_stop_is_clean_and_answers_what_has_begun(stack: Stack) -> None:
    """A request half sent when `docker stop` comes is answered; it ends in 10 s."""
    container = stack.container()
    body = json.dumps({"code": "not a code"}).encode()
    head = (
        f"POST /verify-2fa HTTP/1.1\r\nHost: 127.0.0.1:{stack.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    with (
        ThreadPoolExecutor(1) as pool,
        socket.create_connection(("127.0.0.1", stack.port), timeout=10) as client,
    ):
        client.sendall(head + body[:5])
        time.sleep(0.5)
        begun = time.monotonic()
        stopped = pool.submit(docker, "stop", "--time", "30", container)
        time.sleep(1.5)
        assert not stopped.done(), "it did not wait for the request"
        client.sendall(body[5:])
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
        stopped.result()
        took_s = time.monotonic() - begun

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'\r\n\r\n{"valid":false}')
    assert took_s < 10
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0\n"
