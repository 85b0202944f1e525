"""The v1 API's calls about accounts, over real connections."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pyotp
import pytest
import segno
from conftest import TurnedClock
from server_fixture import OTHER_SEED, SEED, Reply, code_at, sealed_to
from v1_fixture import V1, caller, served_v1

from otpseal.adapters.file_keys import RsaKeys
from otpseal.audit import Kind
from otpseal.totp import step_at

FIELDS = [
    "id",
    "type",
    "algorithm",
    "digits",
    "period",
    "window",
    "issuer",
    "label",
    "state",
    "drift",
    "created_at",
    "last_step",
]


@pytest.fixture
def v1(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[V1]:
    """A service and a caller who may do everything."""
    with served_v1(tmp_path, service_keys, clock) as made:
        yield made


def refusal(reply: Reply) -> tuple[int, str]:
    """Return a problem's status and code."""
    return reply.status, reply.json["code"]


class TestCreate:
    """`POST /v1/accounts` with a seed of the service's."""

    def test_what_is_shown_once(self, v1: V1) -> None:
        """All fields, the URI and its QR code; then the fields alone."""
        reply = v1.post(
            "/v1/accounts",
            {"id": "shop/alice", "issuer": "My Shop", "label": "a/b@shop.example"},
        )

        made = reply.json
        assert reply.status == 201
        assert [*FIELDS, "otpauth_uri", "qr_svg"] == list(made)
        assert made["state"] == "pending"
        assert made["last_step"] is None
        assert made["created_at"] == "2027-01-15T08:00:00Z"
        assert re.fullmatch(
            r"otpauth://totp/My%20Shop:a%2Fb%40shop\.example\?secret=[A-Z2-7]{32}"
            r"&issuer=My%20Shop&algorithm=SHA1&digits=6&period=30",
            made["otpauth_uri"],
        )
        assert v1.get("/v1/accounts/shop/alice").json == {
            name: made[name] for name in FIELDS
        }

    def test_the_qr_code(self, v1: V1) -> None:
        """Shows the URI, refers to nothing, and stays dark on light."""
        made = v1.post("/v1/accounts", {"id": "a", "issuer": "Shop"}).json

        image = ET.fromstring(made["qr_svg"])
        expected = segno.make(made["otpauth_uri"], error="m", micro=False)
        side = expected.symbol_size(scale=5, border=4)[0]
        assert (str(side), str(side)) == (image.get("width"), image.get("height"))
        assert 200 < side < 500
        inline = expected.svg_inline(scale=5, border=4, light="#fff", omitsize=False)
        drawn = re.findall(r' d="([^"]+)"', made["qr_svg"])
        assert drawn == re.findall(r' d="([^"]+)"', inline)
        links = re.findall(
            r"(?:href|src|url\(|script|https?://)[^\s\"]*", made["qr_svg"]
        )
        assert links == ["http://www.w3.org/2000/svg"]

    def test_parameters(self, v1: V1) -> None:
        """Those that apps support, as they were asked for, in the URI too."""
        device = v1.create(
            "a", algorithm="SHA512", digits=8, period=120, window=0, seed_bytes=64
        )

        made = pyotp.parse_uri(device.uri)
        assert isinstance(made, pyotp.TOTP)
        assert (8, 120, 64) == (made.digits, made.interval, len(made.byte_secret()))
        reply = v1.post("/v1/accounts/a:confirm", {"code": device.code()})
        assert reply.json["valid"]

    def test_counters(self, v1: V1) -> None:
        """HOTP: the URI has the next counter, which is the first that is taken."""
        device = v1.enrol("a", type="hotp", counter=7)

        made = pyotp.parse_uri(device.uri)
        assert isinstance(made, pyotp.HOTP)
        assert "counter=7" in device.uri
        assert "period" not in device.uri
        assert v1.verify("a", made.at(7 - made.initial_count)) == {
            "valid": True,
            "step": 7,
        }
        assert refusal(v1.get("/v1/accounts/a:code")) == (422, "parameters_refused")

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({}, "malformed"),
            ({"id": 1}, "malformed"),
            ({"id": None}, "malformed"),
            ({"id": "a", "digits": "6"}, "malformed"),
            ({"id": "a", "digits": True}, "malformed"),
            ({"id": "a", "digits": 6.5}, "malformed"),
            ({"id": "a", "digits": 1e300}, "malformed"),
            ({"id": "a", "seed": "AAAA"}, "malformed"),
            ({"id": "a", "sealed_seed": "AAAA", "seed_bytes": 20}, "malformed"),
            ({"id": "a", "sealed_seed": None}, "malformed"),
            ({"id": "A"}, "account_id_refused"),
            ({"id": "a:b"}, "account_id_refused"),
            ({"id": "a/"}, "account_id_refused"),
            ({"id": "a" * 129}, "account_id_refused"),
            ({"id": "\ud800"}, "account_id_refused"),
            ({"id": "A", "sealed_seed": "AAAA"}, "account_id_refused"),
            ({"id": "a", "type": "TOTP"}, "parameters_refused"),
            ({"id": "a", "algorithm": "MD5"}, "parameters_refused"),
            ({"id": "a", "digits": 9}, "parameters_refused"),
            ({"id": "a", "period": 14}, "parameters_refused"),
            ({"id": "a", "window": 2}, "parameters_refused"),
            ({"id": "a", "counter": -1}, "parameters_refused"),
            ({"id": "a", "seed_bytes": 19}, "parameters_refused"),
            ({"id": "a", "seed_bytes": 65}, "parameters_refused"),
            ({"id": "a", "issuer": "a\nb"}, "parameters_refused"),
            ({"id": "a", "label": "x" * 129}, "parameters_refused"),
            ({"id": "default", "digits": 8}, "parameters_refused"),
            ({"id": "a", "sealed_seed": "AAAA"}, "unseal_failed"),
        ],
    )
    def test_what_is_refused(
        self, v1: V1, fields: dict[str, object], code: str
    ) -> None:
        """422, nothing is made, and nothing of it is repeated."""
        reply = v1.post("/v1/accounts", fields)

        assert refusal(reply) == (422, code)
        assert v1.get("/v1/accounts").json["accounts"] == []

    def test_an_id_is_taken_once(self, v1: V1) -> None:
        """409, and the first keeps its seed."""
        device = v1.enrol("a")

        assert refusal(v1.post("/v1/accounts", {"id": "a"})) == (409, "account_exists")
        assert v1.verify("a", device.code())["valid"]

    def test_a_fence(self, v1: V1) -> None:
        """403 outside the caller's prefix, whether the account exists or not."""
        v1.create("other/bob")
        tenant = caller(v1.here, prefix="shop/")

        for name in ("other/bob", "other/new", "shop"):
            assert refusal(tenant.post("/v1/accounts", {"id": name})) == (
                403,
                "forbidden",
            )
        assert tenant.post("/v1/accounts", {"id": "shop/alice"}).status == 201


class TestBring:
    """`POST /v1/accounts` with a sealed seed."""

    def test_a_sealed_seed(self, v1: V1, service_keys: RsaKeys) -> None:
        """Active at once, and nothing of the seed is in the answer."""
        sealed = sealed_to(service_keys)

        reply = v1.post("/v1/accounts", {"id": "shop/a", "sealed_seed": sealed})

        assert reply.status == 201
        assert list(reply.json) == FIELDS
        assert reply.json["state"] == "active"
        assert v1.verify("shop/a", code_at(v1.here.clock()))["valid"]

    def test_one_seed_has_one_account(self, v1: V1, service_keys: RsaKeys) -> None:
        """409, by another account and by the classic API's."""
        sealed = sealed_to(service_keys)
        v1.post("/v1/accounts", {"id": "a", "sealed_seed": sealed})

        reply = v1.post("/v1/accounts", {"id": "b", "sealed_seed": sealed})

        assert refusal(reply) == (409, "seed_conflict")
        assert v1.here.bring(sealed).status == 409

    def test_no_decryption_oracle(self, v1: V1, other_keys: RsaKeys) -> None:
        """One answer, byte for byte, whatever is wrong with a sealed seed."""
        said = {
            v1.post("/v1/accounts", {"id": "a", "sealed_seed": sealed}).body
            for sealed in (
                "",
                "AAAA",
                "!",
                sealed_to(other_keys),
                base64.b64encode(bytes(512)).decode(),
            )
        }

        assert len(said) == 1

    def test_refusals_are_counted_for_no_account(self, v1: V1) -> None:
        """Names that a caller makes up do not fill the table of counts."""
        for number in range(3):
            v1.post("/v1/accounts", {"id": f"a{number}", "sealed_seed": "AAAA"})

        with v1.here.opened.store.transaction() as tx:
            found = [(tally.kind, tally.account) for tally in tx.tallies()]

        assert found == [(Kind.SEED_REFUSED, "")]


class TestConfirm:
    """`:confirm` and `:resync`."""

    def test_a_first_code(self, v1: V1) -> None:
        """Makes the account active and spends its step."""
        device = v1.create("shop/alice")
        path = "/v1/accounts/shop/alice:confirm"
        step = step_at(v1.here.clock())

        assert v1.post(path, {"code": device.wrong()}).json["reason"] == "wrong"
        reply = v1.post(path, {"code": device.code()})

        assert reply.json == {"valid": True, "step": step}
        shown = v1.get("/v1/accounts/shop/alice").json
        assert (shown["state"], shown["last_step"]) == ("active", step)
        assert v1.verify("shop/alice", device.code())["reason"] == "replayed"
        assert refusal(v1.post(path, {"code": device.code()})) == (
            409,
            "account_not_pending",
        )

    def test_two_codes_in_a_row(self, v1: V1) -> None:
        """Set the drift; both are spent, and the device is followed from there."""
        device = v1.enrol("a")
        codes = [device.code(20), device.code(21)]

        reply = v1.post("/v1/accounts/a:resync", {"codes": codes})

        assert reply.json["valid"]
        assert v1.get("/v1/accounts/a").json["drift"] == 21
        assert v1.verify("a", device.code(21))["reason"] == "replayed"
        assert v1.verify("a", device.code(22))["valid"]

    @pytest.mark.parametrize(
        "codes",
        [None, "000000", ["000000"], ["000000"] * 3, ["000000", 1], [["0"], "0"], {}],
    )
    def test_what_is_not_two_codes(self, v1: V1, codes: object) -> None:
        """422."""
        v1.enrol("a")

        reply = v1.post("/v1/accounts/a:resync", {"codes": codes})

        assert refusal(reply) == (422, "malformed")


class TestShow:
    """Lists and single accounts."""

    def test_pages(self, v1: V1) -> None:
        """Every account once, in the order of the ids' bytes."""
        names = ["a", "a-b", "a.b", "a/b", "a0", "ab", "b", "z@x"]
        for name in reversed(names):
            v1.create(name)
        found, path = [], "/v1/accounts?limit=3"
        for _ in range(3):
            page = v1.get(path).json
            assert len(page["accounts"]) <= 3
            found += [account["id"] for account in page["accounts"]]
            path = f"/v1/accounts?limit=3&cursor={page['next_cursor']}"

        assert found == sorted(names)
        assert page["next_cursor"] is None

    def test_a_fenced_list(self, v1: V1) -> None:
        """A tenant sees his own, whatever cursor he brings."""
        for name in ("other/a", "shop/a", "shop/b", "shopping", "zoo/a"):
            v1.create(name)
        tenant = caller(v1.here, prefix="shop/")

        for cursor in ("", "other/a", "shop/a"):
            place = base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")
            query = f"?cursor={place}" if cursor else ""
            found = tenant.get(f"/v1/accounts{query}").json["accounts"]
            expected = {"shop/a", "shop/b"} - {cursor}
            assert {account["id"] for account in found} == expected

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=+1",
            "limit=%201",
            "limit=1.0",
            "limit=",
            "limit=%D9%A1",
            "limit=1&limit=1",
            "cursor=",
            "cursor=YQ==",
            "cursor=YR",  # another spelling of YQ
            "cursor=Y",
            "cursor=QQ",  # "A": no account's id
            "cursor=w6k",
            "cursor=!!",
            "after=a",
            "limit",
            "limit=1&",
            "%ff=1",
            "limit=%ff",
        ],
    )
    def test_bad_queries(self, v1: V1, query: str) -> None:
        """422, never a guess."""
        reply = v1.get(f"/v1/accounts?{query}")
        assert refusal(reply) == (422, "malformed"), reply

    def test_paths(self, v1: V1) -> None:
        """Slashes as they are or encoded; what is no id is no account."""
        v1.create("shop/al.ice@x")

        for path in ("shop/al.ice@x", "shop%2Fal.ice%40x", "%73hop/al%2eice@x"):
            assert v1.get(f"/v1/accounts/{path}").json["id"] == "shop/al.ice@x"
        for path in ("shop%252Fal.ice@x", "Shop/al.ice@x", "shop/al.ice@x%00", "%ff"):
            reply = v1.get(f"/v1/accounts/{path}")
            assert refusal(reply) == (404, "account_missing")

    def test_absent_and_foreign_ones(self, v1: V1) -> None:
        """One answer to both, for every call on an account."""
        v1.enrol("other/bob")
        tenant = caller(v1.here, prefix="shop/")

        for method, verb in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", ":enable"),
            ("POST", ":disable"),
            ("POST", ":replace"),
            ("POST", ":recovery-codes"),
            ("GET", ":code"),
        ):
            content = {} if method == "POST" else None
            said = {
                tenant.ask(method, f"/v1/accounts/{name}{verb}", content).body
                for name in ("other/bob", "shop/nobody", "NO")
            }
            assert len(said) == 1
            assert b'"account_missing"' in said.pop()

    def test_the_current_code(self, v1: V1) -> None:
        """Is shown with its time, is not spent, and leaves an event."""
        device = v1.enrol("a")
        v1.here.clock.turn(12)

        reply = v1.get("/v1/accounts/a:code")

        assert reply.json == {"code": device.code(), "valid_for": 18}
        assert v1.verify("a", device.code())["valid"]
        newest = v1.here.opened.audit.newest(1, kind="code.shown")
        assert newest[0].row.account == "a"


class TestChange:
    """Enable, disable, delete, replace."""

    def test_enable_and_disable(self, v1: V1) -> None:
        """The answer is the account; enabling ends every wait."""
        device = v1.enrol("a")
        for _ in range(6):
            v1.verify("a", device.wrong())

        assert v1.post("/v1/accounts/a:disable").json["state"] == "disabled"
        reply = v1.post("/v1/accounts/a:enable", b"")

        assert list(reply.json) == FIELDS
        assert reply.json["state"] == "active"
        assert v1.verify("a", device.code())["valid"]

    def test_delete(self, v1: V1) -> None:
        """204 with nothing in it; then it is unknown."""
        device = v1.enrol("a")

        reply = v1.ask("DELETE", "/v1/accounts/a")

        assert (reply.status, reply.body) == (204, b"")
        assert reply.header("content-length") is None
        assert reply.header("cache-control") == "no-store"
        assert refusal(v1.get("/v1/accounts/a")) == (404, "account_missing")
        assert v1.verify("a", device.code())["reason"] == "wrong"

    def test_replace_by_a_new_seed(self, v1: V1) -> None:
        """It is shown once; the old codes are wrong, recovery codes stay."""
        device = v1.enrol("a", digits=8)
        recovery = v1.post("/v1/accounts/a:recovery-codes").json["recovery_codes"]

        reply = v1.post("/v1/accounts/a:replace")

        assert [*FIELDS, "otpauth_uri", "qr_svg"] == list(reply.json)
        new = type(device)(v1.here, "a", reply.json["otpauth_uri"])
        assert new.secret != device.secret
        assert v1.verify("a", device.code())["reason"] == "wrong"
        assert v1.verify("a", new.code())["valid"]
        content = {"account": "a", "recovery_code": recovery[0]}
        assert v1.post("/v1/recover", content).json == {"valid": True}

    def test_replace_by_a_sealed_seed(self, v1: V1, service_keys: RsaKeys) -> None:
        """No seed in the answer; one that any account has is refused."""
        v1.enrol("a")
        sealed = sealed_to(service_keys, OTHER_SEED)

        reply = v1.post("/v1/accounts/a:replace", {"sealed_seed": sealed})

        assert (reply.status, list(reply.json)) == (200, FIELDS)
        assert v1.verify("a", code_at(v1.here.clock(), OTHER_SEED))["valid"]
        again = v1.post("/v1/accounts/a:replace", {"sealed_seed": sealed})
        assert refusal(again) == (409, "seed_conflict")
        broken = v1.post("/v1/accounts/a:replace", {"sealed_seed": "AAAA"})
        assert refusal(broken) == (422, "unseal_failed")


def test_a_seed_is_in_no_other_answer(v1: V1, service_keys: RsaKeys) -> None:
    """Raw, hex, base32 and base64: only where it is shown once."""
    device = v1.enrol("a")
    v1.post("/v1/accounts", {"id": "b", "sealed_seed": sealed_to(service_keys)})
    raw = base64.b32decode(device.secret)
    forms = [
        form
        for seed in (raw, SEED.reveal())
        for form in (
            seed,
            seed.hex().encode(),
            base64.b32encode(seed).rstrip(b"="),
            base64.b64encode(seed).rstrip(b"="),
        )
    ]

    for reply in (
        v1.get("/v1/accounts"),
        v1.get("/v1/accounts/a"),
        v1.get("/v1/accounts/a:code"),
        v1.get("/v1/events"),
        v1.post("/v1/accounts/a:disable"),
        v1.post("/v1/accounts/b:enable"),
        v1.post("/v1/accounts/b:recovery-codes"),
    ):
        assert reply.status == 200
        assert not [form for form in forms if form in reply.body]
