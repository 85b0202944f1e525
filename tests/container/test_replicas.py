"""PostgreSQL and two replicas behind nginx; the tests build on each other."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from container.harness import LINE, UID, Answer, docker, minute_of, wait_for
from container.replicas import (
    ALL,
    REPLICAS,
    Device,
    Replicas,
    new_stack,
    start_on_empty_database,
)

pytestmark = pytest.mark.timeout(400)

REPLAYED = {"valid": False, "reason": "replayed"}
WRONG = {"valid": False, "reason": "wrong"}

#: What a client may put into an address by mistake.
IN_AN_ADDRESS = "canary-in-an-address"


@dataclass(frozen=True)
class Played:
    """The stack and what must never be printed."""

    stack: Replicas
    token: str
    secrets: dict[str, str] = field(repr=False)
    #: What containers printed that are gone.
    printed: list[str] = field(default_factory=list)

    def enrol(self, account: str) -> Device:
        """Make an account and remember its seed as a secret."""
        device = self.stack.enrol(self.token, account)
        self.secrets[f"seed of {account}"] = device.secret
        return device


@pytest.fixture(scope="module")
def played(
    image: str, background: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Played]:
    """The whole stack, raced to its start, with a caller and the exercise's seed."""
    stack, password = new_stack(tmp_path_factory.mktemp("secrets"))
    try:
        start_on_empty_database(stack)
        stack.import_seed()
        _, token = stack.new_token("verify", "accounts")
        yield Played(stack, token, {"password": password, "token": token})
    finally:
        stack.down("--volumes")


def spend(played: Played, device: Device) -> str:
    """Return a code that was accepted just now, through nginx."""

    def tried() -> str | None:
        code = device.code()
        verdict = played.stack.submit(played.token, device.account, code)
        return code if verdict["valid"] else None

    return wait_for("a code of an unspent step", tried, within_s=45) or ""


def test_two_starts_on_an_empty_database_make_one_key_pair(played: Played) -> None:
    """Both found it empty; one made the key, both have it, neither stumbled."""
    stack = played.stack
    logs = [stack.logs(service) for service in REPLICAS]
    names = "cd /keys && ls -A && sha256sum *"
    keys = {stack.sh(names, service=service) for service in REPLICAS}
    events = stack.otpseal(
        *("audit", "list", "--json", "--kind", "store.created"), service="service-2"
    )

    assert sum(log.count("making an RSA-4096 key") for log in logs) == 1
    assert len(keys) == 1
    assert keys.pop().split()[:2] == ["student_private.pem", "student_public.pem"]
    assert len(events.splitlines()) == 1
    assert "error" not in "".join(logs).lower()


def test_two_starts_on_an_empty_database_make_one_schema(played: Played) -> None:
    """It has one revision, and each replica says that it is its own."""
    shown = {
        played.stack.otpseal("db", "current", "--json", service=service)
        for service in REPLICAS
    }

    (revision,) = played.stack.sql("SELECT version_num FROM alembic_version").split()
    assert {"current": revision, "needed": revision} == json.loads(shown.pop())
    assert not shown


def test_a_token_is_every_replicas(played: Played) -> None:
    """Made at one, it holds everywhere; revoked at the other, nowhere."""
    stack = played.stack
    caller, token = stack.new_token("accounts", service="service-1")

    def statuses() -> list[int]:
        return [
            stack.ask(token, "/v1/accounts", service=service).status
            for service in (*REPLICAS, "nginx", "nginx")
        ]

    assert [200] * 4 == statuses()
    stack.otpseal("token", "revoke", caller, service="service-2")
    assert [401] * 4 == statuses()


def test_a_code_is_accepted_once_by_whichever(played: Played) -> None:
    """Accepted through nginx, it is a replay there and at each replica."""
    stack = played.stack
    device = played.enrol("shop/once")

    code = spend(played, device)

    replies = [
        stack.submit(played.token, device.account, code, service=service)
        for service in ("nginx", "nginx", "nginx", *REPLICAS)
    ]
    assert [REPLAYED] * 5 == replies


def test_both_replicas_at_once_accept_a_code_once(played: Played) -> None:
    """Eight callers submit one code at the same time, half of them at each replica."""
    stack = played.stack
    device = played.enrol("shop/race")
    addresses = [service for service in REPLICAS for _ in range(4)]

    with ThreadPoolExecutor(len(addresses)) as pool:
        for _ in range(3):
            code = device.code()
            verdicts = list(
                pool.map(
                    lambda service, code=code: stack.submit(
                        played.token, device.account, code, service=service
                    ),
                    addresses,
                )
            )
            accepted = [verdict for verdict in verdicts if verdict["valid"]]
            # The step may have been spent in the round before; never twice in one.
            assert len(accepted) <= 1
            if accepted:
                break
    assert len(accepted) == 1
    assert verdicts.count(REPLAYED) == len(addresses) - 1


def test_the_classic_api_is_off(played: Played) -> None:
    """What is open to whoever reaches the port is not there."""
    found = [
        played.stack.request("GET", "/generate-2fa").status,
        played.stack.request("POST", "/verify-2fa", {"code": "123456"}).status,
        played.stack.request("POST", "/decrypt-seed", {"encrypted_seed": "A"}).status,
    ]

    assert found == [404] * 3


@pytest.mark.parametrize(
    "path", ["/metrics", "//metrics", "/%6detrics", "/x/../metrics"]
)
def test_metrics_stay_inside(played: Played, path: str) -> None:
    """It is nginx that answers 404, however the path is spelt."""
    answer = played.stack.request("GET", path)

    assert answer.status == 404
    assert b"nginx" in answer.body


def test_a_large_body_stops_at_nginx(played: Played) -> None:
    """Above 16 KiB it is refused before a replica hears of it."""
    answer = played.stack.request("POST", "/v1/verify", {"code": "x" * 16_384})

    assert answer.status == 413
    assert b"nginx" in answer.body


def test_what_a_client_sends_reaches_the_replica_as_it_was(played: Played) -> None:
    """A path keeps its escapes: `shop%2Fonce` is not `shop/once` on the way."""
    stack = played.stack
    path = "/v1/accounts/shop%2F%2Fonce"

    through = stack.ask(played.token, path)

    assert stack.ask(played.token, path, service="service-1") == through


def test_the_restrictions_are_in_force(played: Played) -> None:
    """Read-only roots, no capabilities but the supervisor's two, no new privileges."""
    shown = {}
    uids = {}
    for service in ALL:
        host = json.loads(played.stack.inspect("{{json .HostConfig}}", service))
        added = {name.removeprefix("CAP_") for name in host["CapAdd"] or ()}
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        shown[service] = added
        uids[service] = {process.uid for process in played.stack.processes(service)}

    two = {"SETUID", "SETGID"}
    assert {"service-1": two, "service-2": two, "nginx": set(), "db": set()} == shown
    assert (uids["nginx"], uids["db"]) == ({101}, {999})


def test_only_nginx_is_published_and_to_loopback_only(played: Played) -> None:
    """Nobody outside this host reaches anything, nobody the database but replicas."""
    template = "{{json .NetworkSettings.Ports}}"
    published = {
        service: {port: to for port, to in json.loads(found).items() if to}
        for service in ALL
        if (found := played.stack.inspect(template, service)) != "null"
    }
    networks = {
        service: set(
            json.loads(
                played.stack.inspect("{{json .NetworkSettings.Networks}}", service)
            )
        )
        for service in ("nginx", "db")
    }

    here = {"HostIp": "127.0.0.1", "HostPort": str(played.stack.port)}
    assert {"nginx": {"8080/tcp": [here]}} == {
        service: ports for service, ports in published.items() if ports
    }
    assert not networks["nginx"] & networks["db"]


def test_the_database_wants_the_password(played: Played) -> None:
    """Over the network nobody comes in without it: scram-sha-256, by md5 nobody."""
    stack = played.stack
    rules = stack.sql(
        "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type <> 'local'"
    )
    stored = stack.sql("SELECT left(rolpassword, 14) FROM pg_authid WHERE rolcanlogin")

    assert rules == "scram-sha-256"
    assert stored == "SCRAM-SHA-256$"


def test_a_post_that_was_sent_is_not_sent_again(played: Played) -> None:
    """A replica dies over its calls: a POST ends in an error, a GET is asked again."""
    stack = played.stack
    container = stack.container("service-2")
    docker("pause", container)  # it takes calls and does not answer
    try:
        with ThreadPoolExecutor(24) as pool:
            posts = [
                pool.submit(stack.submitted, played.token, f"shop/nobody-{n}")
                for n in range(12)
            ]
            gets = [
                pool.submit(stack.ask, played.token, "/v1/accounts") for _ in range(12)
            ]
            time.sleep(1.5)
            docker("kill", container)
            post_statuses = {done.result().status for done in posts}
            get_statuses = {done.result().status for done in gets}
    finally:
        docker("start", container)
    stack.wait_healthy("service-2", within_s=60)

    # That none of twelve met the paused one has a chance of 1 in 4096.
    assert post_statuses == {200, 502}
    assert get_statuses == {200}


def test_one_replica_is_enough(played: Played) -> None:
    """While one is dead, each call is answered by the other."""
    stack = played.stack
    device = played.enrol("shop/failover")
    container = stack.container("service-2")
    docker("kill", container)

    try:
        verdicts = [
            stack.submit(played.token, f"shop/nobody-{n}", "123456") for n in range(20)
        ]
        spent = spend(played, device)
    finally:
        docker("start", container)
    stack.wait_healthy("service-2", within_s=60)

    assert [WRONG] * 20 == verdicts
    replay = stack.submit(played.token, device.account, spent, service="service-2")
    assert replay == REPLAYED


def test_without_replicas_nothing_of_a_request_is_logged(played: Played) -> None:
    """502 from nginx, which keeps the address to itself (looked at below)."""
    stack = played.stack
    for service in REPLICAS:
        docker("kill", stack.container(service))
    try:
        answer = stack.ask(played.token, f"/v1/accounts/{IN_AN_ADDRESS}?code=123456")
    finally:
        for service in REPLICAS:
            docker("start", stack.container(service))
    played.secrets["what stood in an address"] = IN_AN_ADDRESS

    assert answer.status in {502, 504}
    stack.all_healthy()


def test_replicas_are_replaced_one_after_the_other(played: Played) -> None:
    """An upgrade: each is made anew while calls go on, and none of these is lost."""
    stack = played.stack
    is_over = False
    answers: list[Answer] = []

    def keep_calling() -> None:
        while not is_over:
            answers.append(stack.ask(played.token, "/v1/accounts"))
            time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(keep_calling)
        try:
            for service in REPLICAS:
                before = stack.container(service)
                played.printed.append(stack.logs(service))
                stack.compose(
                    *("up", "--detach", "--no-build", "--no-deps"),
                    *("--force-recreate", service),
                )
                assert stack.container(service) != before
                stack.wait_healthy(service, within_s=60)
        finally:
            is_over = True
        caller.result()

    assert [] == [answer for answer in answers if answer.status != 200]
    assert len(answers) > 20


def test_the_database_goes_and_comes_back(played: Played) -> None:
    """Without it nothing is accepted, and 503 says so; with it all is as before."""
    stack = played.stack
    device = played.enrol("shop/away")
    spent = spend(played, device)
    docker("stop", stack.container("db"))
    try:
        refused = [
            stack.submitted(played.token, device.account, spent) for _ in range(2)
        ]
        ready = [
            wait_for(
                f"{service} that is not ready",
                lambda service=service: (
                    stack.ask(played.token, "/readyz", service=service).status == 503
                ),
                within_s=60,
            )
            for service in REPLICAS
        ]
    finally:
        docker("start", stack.container("db"))

    assert [503, 503] == [answer.status for answer in refused]
    assert {"store_unavailable"} == {answer.json["code"] for answer in refused}
    assert all(ready)

    def is_back(service: str) -> bool:
        answer = stack.submitted(played.token, device.account, spent, service=service)
        assert answer.status in {200, 503}
        return answer.status == 200 and not answer.json["valid"]

    for service in (*REPLICAS, "nginx"):
        wait_for(
            f"{service} with its database",
            lambda service=service: is_back(service),
            within_s=60,
        )
    assert spend(played, device)
    stack.all_healthy()


def test_one_replica_writes_the_code_log(played: Played) -> None:
    """Each minute has one line at most; the other replica has no cron and no log."""
    stack = played.stack
    wait_for("two lines", lambda: len(stack.log_lines("service-1")) >= 2, within_s=150)

    lines = stack.log_lines("service-1")
    minutes = [minute_of(line) for line in lines]
    commands = [process.command for process in stack.processes("service-2")]

    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert sorted(set(minutes)) == minutes
    assert stack.code_log("service-2") == ""
    assert [c for c in commands if re.match(r"(/usr/sbin/)?cron\b", c)] == []
    assert "2fa-cron" not in stack.logs("service-2")
    assert {p.uid for p in stack.processes("service-2") if "serve" in p.command} == {
        UID
    }


def test_nothing_secret_is_shown(played: Played) -> None:
    """Not in what any container printed, in its settings or its arguments."""
    stack = played.stack
    shown = {"those that are gone": "\n".join(played.printed)}
    for service in ALL:
        container = stack.container(service)
        shown[service] = "\n".join(
            (
                stack.logs(service),
                docker("inspect", container),
                docker("top", container),
            )
        )

    found = [
        f"{name} at {service}"
        for service, text in shown.items()
        for name, secret in played.secrets.items()
        if secret in text
    ]
    assert found == []
    assert len(played.secrets) >= 7
    # What the search would see if it were there.
    assert "/run/secrets/database_password" in shown["db"]
