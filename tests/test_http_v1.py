"""The v1 API over real connections: attempts, credentials, and every refusal's form."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import TurnedClock
from server_fixture import (
    JSON_TYPE,
    Here,
    Reply,
    call,
    opened_over,
    sealed_to,
)
from v1_fixture import ALL, V1, caller, served_v1

from otpseal.access import Scope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.config import Settings
from otpseal.http.app import create_app
from otpseal.http.wire import MAX_BODY_BYTES, PEER_NAMES, App
from otpseal.totp import step_at

WRONG = {"valid": False, "reason": "wrong"}
REPLAYED = {"valid": False, "reason": "replayed"}
DISABLED = {"valid": False, "reason": "disabled"}


@pytest.fixture
def v1(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[V1]:
    """A service and a caller who may do everything."""
    with served_v1(tmp_path, service_keys, clock) as made:
        yield made


def problem(reply: Reply) -> tuple[int, str]:
    """Return status and code of a problem, whose form is checked."""
    content = reply.json
    assert reply.header("content-type") == "application/problem+json"
    assert content["status"] == reply.status
    assert content["type"] == f"urn:otpseal:problem:{content['code']}"
    assert content["title"]
    assert set(content) <= {"type", "title", "status", "code", "detail"}
    return reply.status, content["code"]


class TestVerify:
    """`POST /v1/verify`."""

    def test_a_code_is_accepted_once(self, v1: V1) -> None:
        """With the step that it spent; afterwards it is a replay."""
        device = v1.enrol("shop/alice")
        step = step_at(v1.here.clock())

        assert v1.verify("shop/alice", device.code()) == {"valid": True, "step": step}
        assert v1.verify("shop/alice", device.code()) == REPLAYED
        assert v1.verify("shop/alice", device.wrong()) == WRONG

    def test_the_answers_bytes(self, v1: V1) -> None:
        """Compact JSON, never stored, never sniffed."""
        v1.enrol("a")

        reply = v1.post("/v1/verify", {"account": "a", "code": "000000"})

        assert reply.body == b'{"valid":false,"reason":"wrong"}'
        assert reply.header("content-type") == "application/json"
        assert reply.header("cache-control") == "no-store"
        assert reply.header("x-content-type-options") == "nosniff"

    def test_throttling(self, v1: V1) -> None:
        """From the fifth wrong code on the wait is told, in body and header."""
        device = v1.enrol("a")
        for _ in range(5):
            assert v1.verify("a", device.wrong()) == WRONG

        reply = v1.post("/v1/verify", {"account": "a", "code": device.code()})

        assert reply.status == 200
        assert reply.json == {"valid": False, "reason": "throttled", "retry_after": 30}
        assert reply.header("retry-after") == "30"
        v1.here.clock.turn(30)
        assert v1.verify("a", device.code())["valid"]

    def test_one_caller_at_his_limit_keeps_no_other_out(self, v1: V1) -> None:
        """Each has a budget of his own."""
        device = v1.enrol("a")
        other = caller(v1.here)
        for _ in range(6):
            v1.verify("a", device.wrong())

        assert v1.verify("a", device.code())["reason"] == "throttled"
        assert other.verify("a", device.code())["valid"]

    def test_a_disabled_account(self, v1: V1) -> None:
        """Says so; a pending one as well."""
        device = v1.create("a")
        assert v1.verify("a", device.code()) == DISABLED
        v1.post("/v1/accounts/a:disable")
        assert v1.verify("a", device.code()) == DISABLED

    @pytest.mark.parametrize(
        "code",
        [
            "",
            "12345",
            "123456789",
            "12345a",
            " 123456",
            "\uff11\uff12\uff13\uff14\uff15\uff16",
            "\ud800",
        ],
    )
    def test_what_is_no_code_costs_nothing(self, v1: V1, code: str) -> None:
        """Wrong, as often as one likes, and the right one is still taken."""
        device = v1.enrol("a")
        for _ in range(6):
            assert v1.verify("a", code) == WRONG

        assert v1.verify("a", device.code())["valid"]


class TestRecover:
    """`POST /v1/recover`."""

    def recover(self, v1: V1, account: str, code: str) -> Any:  # noqa: ANN401 - JSON
        """Return the verdict about a recovery code."""
        content = {"account": account, "recovery_code": code}
        reply = v1.post("/v1/recover", content)
        assert reply.status == 200, reply
        return reply.json

    def test_a_recovery_code_is_accepted_once(self, v1: V1) -> None:
        """However it is typed, and the codes around it are spent with it."""
        device = v1.enrol("a")
        made = v1.post("/v1/accounts/a:recovery-codes").json["recovery_codes"]

        assert len(set(made)) == 10
        typed = made[3].upper().replace("-", "")
        assert self.recover(v1, "a", typed) == {"valid": True}
        assert self.recover(v1, "a", made[3]) == WRONG
        assert v1.verify("a", device.code()) == REPLAYED
        assert v1.verify("a", device.code(1)) == REPLAYED

    def test_new_ones_void_the_old_ones(self, v1: V1) -> None:
        """And those of another account are nobody else's."""
        v1.enrol("a")
        v1.enrol("b")
        old = v1.post("/v1/accounts/a:recovery-codes").json["recovery_codes"]
        new = v1.post("/v1/accounts/a:recovery-codes").json["recovery_codes"]

        assert self.recover(v1, "a", old[0]) == WRONG
        assert self.recover(v1, "b", new[0]) == WRONG
        assert self.recover(v1, "a", new[0]) == {"valid": True}

    def test_what_is_no_recovery_code_costs_nothing(self, v1: V1) -> None:
        """Wrong as often as one likes; but a disabled account says so."""
        v1.enrol("a")
        code = v1.post("/v1/accounts/a:recovery-codes").json["recovery_codes"][0]
        for typed in ("", "abcd", "123456", code + "a", "\u017f" * 16, "\ud800") * 2:
            assert self.recover(v1, "a", typed) == WRONG

        assert self.recover(v1, "a", code) == {"valid": True}
        v1.post("/v1/accounts/a:disable")
        assert self.recover(v1, "a", "") == DISABLED

    def test_wrong_ones_and_wrong_codes_share_a_throttle(self, v1: V1) -> None:
        """Five of both together start a wait."""
        device = v1.enrol("a")
        for _ in range(3):
            assert v1.verify("a", device.wrong()) == WRONG
            assert self.recover(v1, "a", "a" * 16) == (
                WRONG if _ < 2 else {**WRONG, "reason": "throttled", "retry_after": 30}
            )


BODIES = {
    "/v1/verify": {"code": "000000"},
    "/v1/recover": {"recovery_code": "aaaa-aaaa-aaaa-aaaa"},
    ":confirm": {"code": "000000"},
    ":resync": {"codes": ["000000", "000001"]},
}


class TestTelling:
    """Unknown and foreign accounts are answered as if the code were wrong."""

    def answers(self, tenant: V1, call_: str, account: str) -> list[object]:
        """Return eight answers, and all headers but Date, byte for byte."""
        body: dict[str, object] = dict(BODIES[call_])
        path = call_
        if call_.startswith(":"):
            path = f"/v1/accounts/{account}{call_}"
        else:
            body["account"] = account
        said: list[object] = []
        for _ in range(8):
            reply = tenant.post(path, body)
            headers = [pair for pair in reply.headers if pair[0] != "date"]
            said.append((reply.status, headers, reply.body))
        return said

    @pytest.mark.parametrize("call_", BODIES)
    def test_unknown_and_foreign_accounts(self, v1: V1, call_: str) -> None:
        """The same eight answers, into the throttle, for each of them."""
        make = v1.create if call_ == ":confirm" else v1.enrol
        for name in ("shop/alice", "other/bob", "shop/x"):
            device = make(name)
            assert device.wrong() in ("000000", "000001", "000002")
        tenant = caller(v1.here, prefix="shop/")

        told = self.answers(tenant, call_, "shop/alice")

        reasons = [json.loads(body)["reason"] for _, _, body in told]  # type: ignore[misc]
        assert reasons == ["wrong"] * 5 + ["throttled"] * 3
        foreign = "other/bob"
        for name in (
            "shop/nobody",
            foreign,
            "shop/Alice",
            "shop/",
            "shop//x",
            "SHOP/X",
        ):
            assert told == self.answers(tenant, call_, name), name

    def test_malformed_ids_in_bodies(self, v1: V1) -> None:
        """Neither folded nor refused, nor a fault: just unknown."""
        device = v1.enrol("shop/alice")

        for name in (
            "shop/Alice",
            " shop/alice",
            "shop/alice\n",
            "",
            "\0",
            "\ud800",
            "\u017f",
        ):
            assert v1.verify(name, device.code()) == WRONG
        assert v1.verify("shop/alice", device.code())["valid"]

    def test_a_foreign_right_code(self, v1: V1) -> None:
        """Is wrong, and not spent."""
        device = v1.enrol("other/bob")
        tenant = caller(v1.here, prefix="shop/")

        assert tenant.verify("other/bob", device.code()) == WRONG
        assert v1.verify("other/bob", device.code())["valid"]


CALLS = [
    ("verify", "POST", "/v1/verify", {"account": "a", "code": "000000"}),
    ("verify", "POST", "/v1/recover", {"account": "a", "recovery_code": "x"}),
    ("verify", "POST", "/v1/recover", {"account": "a", "recovery_code": "a" * 16}),
    ("accounts", "POST", "/v1/accounts", {"id": "new"}),
    ("import", "POST", "/v1/accounts", {"id": "sealed", "sealed_seed": "AAAA"}),
    ("import", "POST", "/v1/envelopes", {"envelope": "x"}),
    ("import", "GET", "/v1/receipts/a", None),
    ("accounts", "GET", "/v1/accounts", None),
    ("accounts", "GET", "/v1/accounts/a", None),
    ("accounts", "POST", "/v1/accounts/a:enable", {}),
    ("accounts", "POST", "/v1/accounts/a:disable", {}),
    ("accounts", "POST", "/v1/accounts/a:confirm", {"code": "000000"}),
    ("accounts", "POST", "/v1/accounts/a:resync", {"codes": ["000000", "000001"]}),
    ("accounts", "POST", "/v1/accounts/a:recovery-codes", {}),
    ("code", "GET", "/v1/accounts/a:code", None),
    ("audit", "GET", "/v1/events", None),
    ("admin", "POST", "/v1/accounts/a:replace", {}),
    ("admin", "POST", "/v1/accounts/a:replace", {"sealed_seed": "AAAA"}),
    ("admin", "DELETE", "/v1/accounts/a", None),
]


class TestCallers:
    """Who is let in."""

    def test_nobody(self, v1: V1) -> None:
        """No, malformed, unknown, revoked, expired, two: one answer, byte for byte."""
        spent = caller(v1.here, lasts_s=60)
        v1.here.clock.turn(61)
        gone = v1.here.service.callers.create("gone", ALL)
        assert gone.token is not None
        v1.here.service.callers.revoke(gone.caller.id)
        right = ("Authorization", f"Bearer {v1.token}")
        wrong: list[list[tuple[str, str]]] = [
            [],
            [("Authorization", "Bearer x")],
            [("Authorization", f"Basic {v1.token}")],
            [("Authorization", v1.token)],
            [("Authorization", f"Bearer {v1.token}x")],
            [("Authorization", "Bearer otpseal_" + "A" * 43)],
            [("Authorization", f"Bearer {gone.token.reveal().decode()}")],
            [("Authorization", f"Bearer {spent.token}")],
            [right, right],
        ]

        said = set()
        for given in wrong:
            headers = [*JSON_TYPE.items(), *given]
            body = b'{"account":"a","code":"000000"}'
            reply = call(v1.here.port, "POST", "/v1/verify", body, headers)
            assert problem(reply) == (401, "unauthenticated")
            assert reply.header("www-authenticate") == "Bearer"
            said.add((reply.body, str([h for h in reply.headers if h[0] != "date"])))
        assert len(said) == 1

    def test_revocation_holds_from_the_next_request(self, v1: V1) -> None:
        """For each kind of call, one that goes by the batch and one that does not."""
        made = v1.here.service.callers.create("short", ALL)
        assert made.token is not None
        short = V1(v1.here, made.token.reveal().decode())
        v1.enrol("a")
        assert short.verify("a", "000000") == WRONG
        assert short.get("/v1/accounts").status == 200

        v1.here.service.callers.revoke(made.caller.id)

        reply = short.post("/v1/verify", {"account": "a", "code": "000000"})
        assert problem(reply) == (401, "unauthenticated")
        assert problem(short.get("/v1/accounts")) == (401, "unauthenticated")

    @pytest.mark.parametrize(("scope", "method", "path", "content"), CALLS)
    def test_scopes(
        self, v1: V1, scope: str, method: str, path: str, content: object
    ) -> None:
        """Each call needs its own scope: all others but admin are not enough."""
        v1.enrol("a")
        rest = caller(v1.here, ALL - {Scope(scope), Scope.ADMIN})
        enough = caller(v1.here, frozenset({Scope(scope)}))

        refused = rest.ask(method, path, content)
        allowed = enough.ask(method, path, content)

        assert problem(refused) == (403, "forbidden")
        assert refused.json["detail"] == f"This needs the scope {scope}"
        assert allowed.status not in (401, 403)

    def test_every_call_is_in_the_list_above(self, v1: V1) -> None:
        """A call that is added needs a scope that is tested."""
        document = v1.get("/openapi.json").json
        documented = {
            (method.upper(), path)
            for path, operations in document["paths"].items()
            if path.startswith("/v1/")
            for method in operations
        }

        assert documented == {
            (
                method,
                path.replace("accounts/a", "accounts/{id}").replace(
                    "receipts/a", "receipts/{digest}"
                ),
            )
            for _, method, path, _ in CALLS
        }


async def ask_app(
    app: App, names: tuple[str, ...], *, token: str = ""
) -> tuple[int, Any]:
    """Ask an application directly, as if a protocol had verified a certificate."""
    incoming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    started: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(
        app({"type": "lifespan"}, incoming.get, started.put)  # type: ignore[arg-type]
    )
    await incoming.put({"type": "lifespan.startup"})
    await started.get()
    headers = [(b"host", b"localhost")]
    headers += [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/v1/accounts",
        "query_string": b"",
        "headers": headers,
        "extensions": {PEER_NAMES: names},
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:  # noqa: ANN401
        sent.append(message)

    await app(scope, receive, send)  # type: ignore[arg-type]
    await incoming.put({"type": "lifespan.shutdown"})
    await life
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize(
    ("names", "token", "status"),
    [
        (("DNS:shop.example",), "", 200),
        (("DNS:unknown.example", "email:x@y.example", "DNS:shop.example"), "", 200),
        (("DNS:other.example", "DNS:shop.example"), "", 200),
        (("DNS:Shop.example",), "", 200),
        (("DNS:unknown.example", "URI:spiffe://x"), "", 401),
        (("shop.example",), "", 401),
        (("DNS:gone.example",), "", 401),
        (("DNS:gone.example", "DNS:shop.example"), "", 200),
        ((), "", 401),
        # Who presents a token as well is whom the token says.
        (("DNS:shop.example",), "otpseal_" + "A" * 43, 401),
        (("DNS:shop.example",), "x", 401),
    ],
)
def test_client_certificates(  # noqa: PLR0917 - fixtures are asked for by name
    names: tuple[str, ...],
    token: str,
    status: int,
    tmp_path: Path,
    service_keys: RsaKeys,
    clock: TurnedClock,
) -> None:
    """A name that was admitted lets in, among others too; a token goes before it."""
    with opened_over(tmp_path, service_keys, clock) as opened:
        callers = opened.service.callers
        scopes = frozenset({Scope.ACCOUNTS})
        callers.create("shop", scopes, certificate="DNS:shop.example")
        gone = callers.create("gone", scopes, certificate="DNS:gone.example")
        callers.revoke(gone.caller.id)

        said, body = asyncio.run(
            ask_app(create_app(opened, Settings(data_dir=tmp_path)), names, token=token)
        )

    assert status == said, body
    assert body.get("code") == (None if status == 200 else "unauthenticated")


class TestRefusals:
    """Requests that are not fulfilled."""

    def test_wrong_methods(self, v1: V1) -> None:
        """405 with Allow, whatever the path's form."""
        for method, path, allow in (
            ("GET", "/v1/verify", "POST"),
            ("DELETE", "/v1/accounts", "GET, POST"),
            ("POST", "/v1/accounts/shop/alice", "GET, DELETE"),
            ("POST", "/v1/accounts/shop/alice:code", "GET"),
            ("PUT", "/v1/accounts/a:confirm", "POST"),
            ("POST", "/v1/events", "GET"),
        ):
            reply = v1.ask(method, path, {})
            assert problem(reply) == (405, "method_not_allowed"), path
            assert reply.header("allow") == allow

    def test_unknown_paths(self, v1: V1) -> None:
        """404 `not_found`, which no account's absence is; `a:` is no other `a`."""
        v1.enrol("a")
        for path in ("", "x", "verify/", "accounts/a:x", "accounts/a:", "accounts/:"):
            assert problem(v1.get(f"/v1/{path}")) == (404, "not_found"), path
        for path in ("accounts/", "accounts/a/", "accounts//a", "accounts/a:a:code"):
            assert problem(v1.get(f"/v1/{path}")) == (404, "account_missing"), path

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (b"{", (400, "malformed_json")),
            (b'{"account":"a","code":NaN}', (400, "malformed_json")),
            (b'{"account":"a","account":"b","code":"1"}', (400, "malformed_json")),
            (b"\xff", (400, "malformed_json")),
            (b" " * (MAX_BODY_BYTES + 1), (413, "too_large")),
            (b"[]", (422, "malformed")),
            (b"{}", (422, "malformed")),
            (b"", (422, "malformed")),
            (b'{"account":"a"}', (422, "malformed")),
            (b'{"account":"a","code":123456}', (422, "malformed")),
            (b'{"account":null,"code":"1"}', (422, "malformed")),
            (b'{"account":"a","code":"1","time":1}', (422, "malformed")),
        ],
    )
    def test_bodies(self, v1: V1, body: bytes, expected: tuple[int, str]) -> None:
        """Strict, and never repeated."""
        assert problem(v1.post("/v1/verify", body)) == expected

    def test_content_type(self, v1: V1) -> None:
        """What a browser could send across origins is refused, verbs included."""
        headers = [("Authorization", f"Bearer {v1.token}")]
        for path in ("/v1/verify", "/v1/accounts/a:disable", "/v1/accounts/a:confirm"):
            for kind in ([], [("Content-Type", "text/plain")]):
                reply = call(v1.here.port, "POST", path, b"{}", [*headers, *kind])
                assert problem(reply) == (415, "unsupported_media_type")

    def test_no_call_takes_a_time(self, v1: V1) -> None:
        """Whoever could say what time it is would choose the code."""
        v1.enrol("a")
        for path, content in (
            ("/v1/recover", {"account": "a", "recovery_code": "x"}),
            ("/v1/accounts/a:confirm", {"code": "000000"}),
            ("/v1/accounts/a:resync", {"codes": ["000000", "000001"]}),
            ("/v1/accounts/a:enable", {}),
            ("/v1/accounts", {"id": "b"}),
        ):
            reply = v1.post(path, {**content, "at": 1})
            assert problem(reply) == (422, "malformed")

    def test_a_clock_behind(self, v1: V1) -> None:
        """503 with Retry-After, in the classic API's form as well."""
        device = v1.enrol("a")
        v1.here.bring(sealed_to(v1.here.opened.keys))  # type: ignore[arg-type]
        v1.verify("a", device.code())
        v1.here.clock.turn(-60)

        reply = v1.post("/v1/verify", {"account": "a", "code": device.code()})
        classic = v1.here.verify("000000")

        assert problem(reply) == (503, "clock_behind")
        assert reply.header("retry-after") == "5"
        assert (503, b'{"error":"Store unavailable"}') == (classic.status, classic.body)

    def test_a_damaged_seed(
        self, v1: V1, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """500 with a code of its own; which account it is stands in the log alone."""
        v1.enrol("shop/alice")
        with closing(sqlite3.connect(tmp_path / "otpseal.db")) as database, database:
            database.execute("UPDATE accounts SET sealed_seed = x'02'")

        for reply in (
            v1.post("/v1/verify", {"account": "shop/alice", "code": "000000"}),
            v1.get("/v1/accounts/shop/alice:code"),
        ):
            assert problem(reply) == (500, "seed_unreadable")
            assert b"alice" not in reply.body
        assert "shop/alice" in caplog.text
        assert "traceback" not in caplog.text.lower()

    def test_a_fault_of_ours(
        self, tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
    ) -> None:
        """500 `internal`, and nothing of what it was."""
        with served_v1(tmp_path, service_keys, clock) as v1:
            secret = "cAnArY7f3a91"
            v1.here.opened.service.accounts._clock = lambda: {}[secret]

            reply = v1.get("/v1/accounts")

        assert problem(reply) == (500, "internal")
        assert secret.encode() not in reply.body

    def test_the_store_is_gone(
        self, v1: V1, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """503 with Retry-After, and no path of this machine."""
        v1.enrol("a")
        with closing(sqlite3.connect(tmp_path / "otpseal.db")) as database, database:
            database.execute("ALTER TABLE callers RENAME TO elsewhere")

        for reply in (
            v1.post("/v1/verify", {"account": "a", "code": "000000"}),
            v1.get("/v1/accounts"),
        ):
            assert problem(reply) == (503, "store_unavailable")
            assert reply.header("retry-after") == "1"
            assert str(tmp_path).encode() not in reply.body

    def test_switched_off(
        self, tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
    ) -> None:
        """As if there were no such paths; they are not documented either."""
        settings = {"v1": False}
        with served_v1(tmp_path, service_keys, clock, settings=settings) as v1:
            reply = v1.post("/v1/verify", {"account": "a", "code": "000000"})
            document = v1.get("/openapi.json").json

        assert reply.status == 404
        assert [] == [path for path in document["paths"] if path.startswith("/v1")]


def test_both_apis_share_the_default_account(v1: V1) -> None:
    """One write path: what one accepted is a replay to the other."""
    here: Here = v1.here
    assert here.bring(sealed_to(here.opened.keys)).status == 200  # type: ignore[arg-type]

    assert here.verify(here.right()).json == {"valid": True}
    assert v1.verify("default", here.right()) == REPLAYED
