"""No secret of the v1 API where it is not documented to be.

The real program at DEBUG, with JSON lines, an access log and metrics. Accounts have
eight digits: codes that are in no time and no id. What is searched: every answer but
the two that show a secret, the log, the metrics, the database's pages and journal, a
backup, and the command line's own words.
"""

import json
import time
from base64 import b32decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyotp
import pytest
from server_fixture import JSON_TYPE, Reply, Server, call, otpseal, serving
from test_canaries import PROGRAM, forms, found_in

from otpseal.adapters.file_keys import RsaKeys

NAME = "shop/alice"


@dataclass
class Run:
    """A run of the program, what it was told and what it told."""

    server: Server
    settings: dict[str, object]
    token: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    shown: bytes = b""
    secrets: dict[str, bytes] = field(default_factory=dict)

    def ask(self, method: str, path: str, content: object = None) -> Reply:
        """Send a request with the token; keeps the answer."""
        headers = [("Authorization", f"Bearer {self.token}"), *JSON_TYPE.items()]
        body = b"" if content is None else json.dumps(content).encode()
        reply = call(self.server.port, method, path, body, headers)
        self.answers[f"{len(self.answers)} {path}"] = repr(reply).encode()
        return reply

    def showing(self, method: str, path: str, content: object = None) -> Reply:
        """Send a request whose answer is documented to hold a secret."""
        reply = self.ask(method, path, content)
        _, answer = self.answers.popitem()
        self.shown += answer
        assert reply.status in (200, 201), reply
        return reply


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Run]:
    """An account's life, with right and wrong codes, and errors of every kind."""
    directory = tmp_path_factory.mktemp("run")
    settings: dict[str, object] = {
        "log_format": "json",
        "access_log": "on",
        "metrics_token_file": directory / "metrics",
    }
    (directory / "metrics").write_text("m" * 40)
    (directory / "metrics").chmod(0o600)
    with serving(directory, service_keys, program=PROGRAM, **settings) as server:
        given = {
            "data_dir": directory / "data",
            "key_file": server.key_file,
            **settings,
        }
        made = Run(server, given)
        _drive(made)
        yield made


def _drive(run: Run) -> None:
    done = otpseal(
        *("token", "create", "t", "--scope", "admin", "--json"), **run.settings
    )
    run.token = json.loads(done.stdout)["token"]
    fields = {"id": NAME, "digits": 8, "seed_bytes": 32, "issuer": "Shop"}
    made = run.showing("POST", "/v1/accounts", fields).json
    device = pyotp.parse_uri(made["otpauth_uri"])
    assert isinstance(device, pyotp.TOTP)
    now = int(time.time())
    codes = [device.at(now + 30 * ahead) for ahead in (-1, 0, 1, 2, 3)]
    path = f"/v1/accounts/{NAME}"
    assert run.ask("POST", f"{path}:confirm", {"code": codes[1]}).json["valid"]
    recovery = run.showing("POST", f"{path}:recovery-codes", {}).json["recovery_codes"]
    shown = run.showing("GET", f"{path}:code").json["code"]
    wrong = "90210742"
    for code in (codes[1], codes[2], wrong, shown, codes[2] + " ", f"\ud800{wrong}"):
        run.ask("POST", "/v1/verify", {"account": NAME, "code": code})
        run.ask("POST", "/v1/verify", {"account": "shop/no", "code": code})
        run.ask("POST", "/v1/verify", {"account": code, "code": code})
        path_code = quote(code, safe="", errors="replace")
        run.ask("POST", f"/v1/accounts/{path_code}:confirm", {"code": code})
        run.ask("GET", f"/v1/accounts/{path_code}?code={path_code}")
    run.ask("POST", "/v1/recover", {"account": NAME, "recovery_code": recovery[0]})
    run.ask("POST", "/v1/recover", {"account": NAME, "recovery_code": recovery[1]})
    run.ask("POST", f"{path}:resync", {"codes": [codes[3], codes[4]]})
    for name, form in forms(_raw(device)).items():
        text = form.decode("latin-1")
        run.ask("POST", "/v1/accounts", {"id": "a", "sealed_seed": text, "x": name})
        run.ask("POST", "/v1/accounts", {"id": "a", "sealed_seed": text})
        run.ask("POST", "/v1/verify", {"account": text, "code": text})
    for call_path in ("/v1/events?limit=200", "/v1/accounts", path, "/metrics"):
        run.ask("GET", call_path)
    run.ask("DELETE", "/v1/accounts/none")
    run.secrets = {
        **{f"seed, {name}": form for name, form in forms(_raw(device)).items()},
        **{f"token, {n}": form for n, form in forms(run.token.encode()).items()},
        **{f"code {n}": code.encode() for n, code in enumerate([*codes, wrong])},
        **{f"recovery {n}": code.encode() for n, code in enumerate(recovery)},
        **{
            f"recovery bare {n}": code.replace("-", "").encode()
            for n, code in enumerate(recovery)
        },
    }


def _raw(device: pyotp.TOTP) -> bytes:
    secret = device.secret
    return b32decode(secret + "=" * (-len(secret) % 8))


def test_the_secrets_are_where_they_are_documented(run: Run) -> None:
    """Positive control: the answers that show them hold them, and are searched so."""
    found = found_in(run.shown, run.secrets)

    for name in ("seed, base32", "code 1", "recovery 0"):
        assert any(name in line for line in found), (name, found)


def test_no_answer_holds_one(run: Run) -> None:
    """Errors, verdicts, lists, events and metrics say nothing of the input."""
    assert len(run.answers) > 40
    for name, answer in run.answers.items():
        assert found_in(answer, run.secrets) == [], name


def test_no_log_line_holds_one(run: Run) -> None:
    """At DEBUG, the statements of the database driver among them."""
    log = (run.server.directory / "err").read_bytes()

    assert b"sqlalchemy" in log
    assert found_in(log, run.secrets) == []


def test_no_page_of_the_database_holds_one(run: Run) -> None:
    """Nor its journal, nor any other file of the store."""
    files = (run.server.directory / "data").rglob("*")
    content = {path: path.read_bytes() for path in files if path.is_file()}

    assert any(path.name == "otpseal.db" for path in content)
    for path, raw in content.items():
        assert found_in(raw, run.secrets) == [], path


def test_no_backup_holds_one(run: Run, tmp_path: Path) -> None:
    """It has the account, its seed encrypted; base64 and JSON are looked through."""
    done = otpseal("backup", tmp_path / "backup", **run.settings)
    raw = (tmp_path / "backup").read_bytes()

    assert done.returncode == 0, done.stderr
    assert NAME.encode() in raw
    assert found_in(raw, run.secrets) == []
    assert found_in((done.stdout + done.stderr).encode(), run.secrets) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("account", "show", NAME),
        ("account", "list", "--json"),
        ("token", "list", "--json"),
        ("audit", "list", "--json", "--limit", "1000"),
        ("doctor",),
    ],
)
def test_no_command_prints_one(run: Run, arguments: tuple[str, ...]) -> None:
    """What is shown of accounts, callers and events is not what is secret."""
    done = otpseal(*arguments, **run.settings)
    said = (done.stdout + done.stderr).encode()

    assert said
    assert found_in(said, run.secrets) == []
