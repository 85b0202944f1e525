"""Transcripts of the real command line: seed, code, verify, account, audit, serve."""

import json
import os
import re
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from server_fixture import (
    OTHER_SEED,
    code_at,
    key_file_in,
    opened_over,
    otpseal,
    sealed_to,
    serving,
    wrong_code_at,
)
from typer.main import get_command
from typer.testing import CliRunner

from otpseal import errors, keypolicy
from otpseal.adapters.file_keys import RsaKeys
from otpseal.cli import EXIT_CODES, app
from otpseal.wiring import OpenedService

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Shell:
    """Runs commands on one store."""

    def __init__(self, directory: Path, keys: RsaKeys) -> None:
        self.directory = directory
        self.keys = keys
        self.key_file = key_file_in(directory, keys)
        self.sealed = directory / "encrypted_seed.txt"
        self.sealed.write_text(sealed_to(keys))
        self.other = directory / "other_seed.txt"
        self.other.write_text(sealed_to(keys, OTHER_SEED))

    @property
    def database(self) -> Path:
        """The store's database."""
        return self.directory / "data" / "otpseal.db"

    def __call__(
        self, *arguments: str | Path, stdin: str | bytes = "", **settings: object
    ) -> CompletedProcess[str]:
        """Run `otpseal` with these arguments."""
        given = {
            "data_dir": self.directory / "data",
            "key_file": self.key_file,
            **settings,
        }
        return otpseal(*map(str, arguments), stdin=stdin, **given)

    def opened(self) -> AbstractContextManager[OpenedService]:
        """Open the store in this process: made if need be, and faster."""
        self.database.parent.mkdir(exist_ok=True)
        return opened_over(self.database.parent, self.keys, time.time)

    def sql(self, statement: str, *values: object) -> None:
        """Change the store behind the program's back."""
        with closing(sqlite3.connect(self.database, timeout=10)) as db, db:
            db.execute(statement, values)


def told(done: CompletedProcess[str]) -> tuple[int, str, str]:
    """Return all that a shell sees of a command."""
    return done.returncode, done.stdout, done.stderr


def refused(done: CompletedProcess[str]) -> tuple[int, str]:
    """Check the form of a refusal: one line on stderr; returns its code and text."""
    assert done.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
    return done.returncode, done.stderr.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def shell(tmp_path: Path, service_keys: RsaKeys) -> Shell:
    """Commands on a store without a seed, not yet made."""
    return Shell(tmp_path, service_keys)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys) -> Shell:
    """Commands on a store with the contract's seed, in the middle of their day."""
    shell = Shell(tmp_path_factory.mktemp("cli"), service_keys)
    assert shell("seed", "import", shell.sealed).returncode == 0
    return shell


def unspend(shell: Shell) -> str:
    """Make every code unspent and the account fresh; returns a right code."""
    shell.sql(
        "UPDATE accounts SET last_step = -1, failures = 0, wait_until = 0,"
        " failures_in_all = 0, status = 'active'"
    )
    return code_at(time.time())


# seed


def test_a_seed_is_imported_repeated_refused_and_replaced(shell: Shell) -> None:
    """From a file and from stdin; nothing is overwritten without being asked to."""
    stored = "this seed was stored already; nothing changed\n"
    sealed = shell.sealed.read_text()

    assert told(shell("seed", "import", shell.sealed)) == (
        0,
        "the seed is stored\n",
        "",
    )
    assert told(shell("seed", "import", "-", stdin=sealed + "\n")) == (0, stored, "")
    advice = "if this one is to take its place, run `otpseal seed replace`"
    other = refused(shell("seed", "import", shell.other))
    assert other == (1, f"a different seed is already stored: {advice}")
    assert told(shell("seed", "replace", shell.other)) == (
        0,
        "the seed is replaced; codes of the old one no longer work\n",
        "",
    )
    assert told(shell("seed", "replace", "-", "--json", stdin=sealed)) == (
        0,
        '{"status": "ok", "import": "replaced"}\n',
        "",
    )
    assert told(shell("seed", "import", shell.sealed, "--json")) == (
        0,
        '{"status": "ok", "import": "repeated"}\n',
        "",
    )


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"A" * 684, b"A" * 100_000])
def test_what_is_no_sealed_seed(seeded: Shell, content: bytes) -> None:
    """Exit 1 with the one text that every such failure has."""
    done = seeded("seed", "import", "-", stdin=content)

    assert refused(done) == (1, "Decryption failed")


def test_a_file_that_cannot_be_read(seeded: Shell) -> None:
    """Exit 2 that names the file and the reason."""
    missing = seeded.directory / "missing.txt"

    assert refused(seeded("seed", "import", missing)) == (
        2,
        f"{missing} cannot be read: No such file or directory",
    )
    assert refused(seeded("seed", "replace", seeded.directory))[0] == 2


# code and verify


def test_without_a_store(shell: Shell) -> None:
    """Exit 2 with advice; a mistyped directory does not become an empty store."""
    for command in (["code"], ["verify", "123456"], ["account", "show"]):
        code, text = refused(shell(*command))

        assert code == 2
        assert str(shell.database.parent) in text
    assert not shell.database.parent.exists()


def test_without_a_seed(shell: Shell) -> None:
    """Exit 1, in the contract's words or with advice."""
    with shell.opened():
        pass

    assert refused(shell("code")) == (1, "Seed not decrypted yet")
    assert refused(shell("verify", "123456")) == (1, "Seed not decrypted yet")
    assert refused(shell("account", "show")) == (
        1,
        "there is no seed yet: import one with `otpseal seed import FILE`",
    )
    assert refused(shell("account", "enable"))[0] == 1
    assert refused(shell("account", "disable"))[0] == 1


def test_the_current_code(seeded: Shell) -> None:
    """For people and for scripts; it is the service's, and asking never spends it."""
    unspend(seeded)
    before = time.time()
    plain, as_json = seeded("code"), seeded("code", "--json")
    codes = {code_at(before), code_at(before + 30), code_at(time.time())}

    found = re.fullmatch(r"(\d{6})  \(valid for (\d+) s\)\n", plain.stdout)
    assert found
    assert found[1] in codes
    assert 1 <= int(found[2]) <= 30
    shown = json.loads(as_json.stdout)
    assert shown["code"] in codes
    assert sorted(shown) == ["code", "valid_for"]
    assert seeded("verify", shown["code"]).returncode == 0


def test_a_code_is_verified_once(seeded: Shell) -> None:
    """Exit 0, then 1; on the command line or by stdin, which no process list shows."""
    code = unspend(seeded)

    assert told(seeded("verify", "-", stdin=code + "\n")) == (0, "valid\n", "")
    assert told(seeded("verify", code)) == (
        1,
        "not valid: this code was used already\n",
        "",
    )
    replayed = '{"valid": false, "reason": "replayed"}\n'
    assert told(seeded("verify", "-", "--json", stdin=code)) == (1, replayed, "")
    code = unspend(seeded)
    assert told(seeded("verify", "--json", code)) == (0, '{"valid": true}\n', "")


def test_what_is_no_code(seeded: Shell) -> None:
    """Exit 1, and no attempt is counted."""
    unspend(seeded)

    for text in ("", "1234567", "\uff11" * 6):
        done = seeded("verify", text)
        assert told(done) == (1, "not valid: a code is six digits\n", "")
    shown = json.loads(seeded("account", "show", "--json").stdout)
    assert shown["consecutive_failures"] == 0


def test_the_throttle_and_the_way_out(seeded: Shell) -> None:
    """Wrong, throttled with the seconds left, disabled, enabled again."""
    code = unspend(seeded)
    wrong = wrong_code_at(time.time())
    seeded.sql("UPDATE accounts SET failures = 4")

    assert told(seeded("verify", wrong)) == (1, "not valid: wrong code\n", "")
    done = seeded("verify", code)
    assert done.returncode == 1
    assert re.fullmatch(
        r"not looked at: too many attempts; try again in (2\d|30) s\n", done.stdout
    )
    answer = json.loads(seeded("verify", code, "--json").stdout)
    assert answer["reason"] == "throttled"
    assert 20 <= answer["retry_after"] <= 30

    seeded.sql(
        "UPDATE accounts SET failures = 99, failures_in_all = 99, wait_until = 0"
    )
    assert seeded("verify", wrong).stdout == "not valid: wrong code\n"
    assert told(seeded("verify", code)) == (
        1,
        "not looked at: the account is disabled (`otpseal account enable`)\n",
        "",
    )
    assert seeded("account", "enable").returncode == 0
    assert seeded("verify", code_at(time.time())).stdout == "valid\n"


# account


def test_the_account_is_shown(seeded: Shell) -> None:
    """Its state, for people and for scripts; never its seed."""
    unspend(seeded)

    plain = seeded("account", "show").stdout
    shown = json.loads(seeded("account", "show", "--json").stdout)

    assert RFC3339.fullmatch(shown.pop("imported_at"))
    assert shown == {
        "account": "default",
        "type": "totp",
        "algorithm": "SHA1",
        "digits": 6,
        "period": 30,
        "window": 1,
        "issuer": "",
        "label": "",
        "state": "active",
        "consecutive_failures": 0,
        "last_step": None,
        "last_step_began": None,
        "drift": 0,
    }
    lines = plain.splitlines()
    assert lines[0] == "account: default"
    assert "state: active" in lines
    assert "consecutive failures: 0" in lines


def test_an_account_is_disabled_and_enabled(seeded: Shell) -> None:
    """Both say so, may be repeated, and leave spent codes spent."""
    code = unspend(seeded)
    assert seeded("verify", code).returncode == 0

    for _ in range(2):
        disabled = seeded("account", "disable")
        assert told(disabled) == (0, "account default is disabled\n", "")
    assert json.loads(seeded("account", "show", "--json").stdout)["state"] == "disabled"
    enabled = seeded("account", "enable")
    assert told(enabled) == (0, "account default is enabled\n", "")
    assert seeded("verify", code).stdout == "not valid: this code was used already\n"


# audit


def events(shell: Shell, *options: str) -> list[dict[str, Any]]:
    """Return the audit log as scripts read it."""
    done = shell("audit", "list", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_audit_log_tells_the_story(shell: Shell) -> None:
    """Every import, decision and administrator's act, in order, without secrets."""
    shell("seed", "import", shell.sealed)
    with shell.opened() as opened:
        service = opened.service
        code = code_at(time.time())
        service.verify(code)
        service.verify(code)
        service.verify(wrong_code_at(time.time()))
        service.accounts.disable()
        service.accounts.enable()
    shell("code")
    shell("seed", "import", shell.other)
    shell("seed", "replace", shell.other)

    listed = events(shell)
    table = shell("audit", "list")

    assert [event["kind"] for event in listed] == [
        "store.created",
        "seed.imported",
        "attempt.accepted",
        "attempt.replayed",
        "attempt.wrong",
        "account.disabled",
        "account.enabled",
        "code.shown",
        "seed.refused",
        "seed.replaced",
    ]
    assert all(event["genuine"] for event in listed)
    assert [event["id"] for event in listed] == sorted(event["id"] for event in listed)
    assert listed[1]["detail"] == {"source": "sealed", "sender": "not authenticated"}
    assert listed[3]["detail"] == {"count": 1}
    assert listed[4]["detail"] == {"failures": 1}
    assert {event["account"] for event in listed[1:]} == {"default"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", listed[0]["at"])
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["id", "time", "event", "account", "detail"]
    for line, event in zip(lines[1:], listed, strict=True):
        assert line.split()[:3] == [str(event["id"]), event["at"], event["kind"]]
    assert code not in table.stdout

    assert [event["kind"] for event in events(shell, "--limit", "2")] == [
        "seed.refused",
        "seed.replaced",
    ]
    (wrong,) = events(shell, "--kind", "attempt.wrong")
    assert wrong == listed[4]
    assert events(shell, "--kind", "no.such.kind") == []


ALTERED = [
    ('detail = \'{"source":"other"}\'', "other"),
    ("kind = 'attempt.accepted'", "attempt.accepted"),
    ("at_ms = at_ms + 1", "default"),
    ("at_ms = 9223372036854775807", "9223372036854775807 ms"),
    ("at_ms = -9223372036854775808", "-9223372036854775808 ms"),
    ("account = 'x' || char(27) || '[2J' || char(13) || char(10)", "x?[2J??"),
    ("detail = '[red]no JSON[/red]'", "[red]no JSON[/red]"),
    ("mac = x''", "code.shown"),
]


def test_altered_events_are_marked(shell: Shell) -> None:
    """Shown with what they say now, harmless to the terminal and to the others."""
    with shell.opened() as opened:
        opened.service.import_sealed(shell.sealed.read_text())
        for _ in ALTERED:
            opened.service.show_code()
    for number, (change, _) in enumerate(ALTERED, 2):
        shell.sql(f"UPDATE audit_events SET {change} WHERE id = {number}")

    table = shell("audit", "list")
    listed = events(shell)

    assert (table.returncode, table.stderr) == (0, "")
    assert "\x1b" not in table.stdout
    lines = table.stdout.splitlines()[1:]
    assert "ALTERED" not in lines[0]
    for line, (change, shows) in zip(lines[1:], ALTERED, strict=True):
        assert "ALTERED" in line, change
        assert shows in line, change
    genuine = [event["genuine"] for event in listed]
    assert genuine == [True] + [False] * len(ALTERED)


@pytest.mark.parametrize("change", ["kind = x'00'", "at_ms = 'x'"])
def test_an_event_of_the_wrong_type_is_marked(shell: Shell, change: str) -> None:
    """Whoever can write the database must not be able to hide the whole log."""
    with shell.opened() as opened:
        opened.service.import_sealed(shell.sealed.read_text())
    shell.sql(f"UPDATE audit_events SET {change} WHERE id = 1")

    table = shell("audit", "list")

    assert table.returncode == 0
    assert "ALTERED" in table.stdout


def test_old_events_are_pruned(shell: Shell) -> None:
    """As many as were said to be, by option or setting, and the pruning is recorded."""
    with shell.opened() as opened:
        opened.service.import_sealed(shell.sealed.read_text())
        opened.service.show_code()
        opened.service.show_code()
    day_ms = 86_400_000
    shell.sql("UPDATE audit_events SET at_ms = at_ms - ?", 10 * day_ms)

    none = shell("audit", "prune", "--days", "11")
    some = shell("audit", "prune", audit_retention_days=9)
    left = [event["kind"] for event in events(shell)]

    assert told(none) == (0, "0 events older than 11 days deleted\n", "")
    # The newest stays, so that no id is ever given twice.
    assert told(some) == (0, "2 events older than 9 days deleted\n", "")
    assert left == ["code.shown", "audit.pruned"]
    assert shell("audit", "prune", "--days", "0").returncode == 2


# Errors


def test_exit_codes_are_one_table() -> None:
    """Every deliberate error has a code, the more special before the more general."""
    kinds = list(EXIT_CODES)

    for index, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:index])
    assert kinds[-1] is errors.OtpsealError
    assert 0 not in EXIT_CODES.values()


def test_errors_are_one_line_with_advice(
    seeded: Shell, tmp_path: Path, other_keys: RsaKeys
) -> None:
    """On stderr, with the exit code of the table, and never a traceback."""
    open_key = tmp_path / "open.pem"
    open_key.write_bytes(seeded.key_file.read_bytes())
    open_key.chmod(0o644)
    weak = tmp_path / "weak.pem"
    weak.write_bytes(keypolicy.private_pem(rsa.generate_private_key(65537, 2048), None))
    weak.chmod(0o600)
    others = key_file_in(tmp_path, other_keys)
    not_a_directory = tmp_path / "file"
    not_a_directory.touch()
    cases: list[tuple[int, str, dict[str, object]]] = [
        (2, "OTPSEAL_DATA_DIR", {"data_dir": not_a_directory}),
        (2, "OTPSEAL_WINDOW_STEPS", {"window_steps": 2}),
        (2, "OTPSEAL_DATABASE_URL", {"database_url": "nonsense"}),
        (2, "OTPSEAL_KEY_PASSPHRASE_FILE", {"key_passphrase_file": tmp_path / "no"}),
        (3, "chmod 600", {"key_file": open_key}),
        (3, "2048", {"key_file": weak}),
        (3, str(tmp_path / "none.pem"), {"key_file": tmp_path / "none.pem"}),
        (3, "belongs to another private key", {"key_file": others}),
    ]

    with ThreadPoolExecutor(3) as pool:
        shown = pool.map(lambda case: seeded("account", "show", **case[2]), cases)
    for (code, advice, _), done in zip(cases, shown, strict=True):
        found = refused(done)
        assert found[0] == code, found
        assert advice in found[1]


def test_a_seed_that_does_not_decrypt_is_named(
    tmp_path: Path, seeded: Shell, service_keys: RsaKeys
) -> None:
    """Exit 4 that says which account and what to do; the way out works."""
    shell = Shell(tmp_path, service_keys)
    shell.database.parent.mkdir()
    shell.database.write_bytes(seeded.database.read_bytes())
    shell.sql("UPDATE accounts SET sealed_seed = x'00'")

    for command in (["code"], ["verify", "123456"]):
        code, text = refused(shell(*command))
        assert code == 4
        assert "account 'default'" in text
        assert "otpseal seed replace" in text
    assert shell("seed", "replace", shell.other).returncode == 0
    assert shell("code").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["verify"],
        ["verify", "--no-such-option", "123456"],
        ["seed", "import"],
        ["audit", "list", "--limit", "0"],
        ["audit", "list", "--limit", "many"],
        ["serve", "--port", "many"],
    ],
)
def test_wrong_usage(seeded: Shell, arguments: list[str]) -> None:
    """Exit 2, nothing on stdout, how to get help on stderr."""
    done = seeded(*arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none(seeded: Shell, port: str) -> None:
    """Exit 2 that names the setting."""
    code, text = refused(seeded("serve", "--port", port))

    assert code == 2
    assert text.startswith("OTPSEAL_PORT: ")


# help


def commands() -> dict[str, set[str]]:
    """Return every command with its options, but for those of workers alone."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:  # noqa: ANN401 - click's own types
        found[name] = {
            option
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for option in getattr(parameter, "opts", [])
            if option.startswith("--")
        }
        for sub in getattr(command, "commands", {}).values():
            walk(sub, f"{name} {sub.name}")

    walk(get_command(app), "otpseal")
    return found


def test_every_command_has_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """--help exits 0, says what the command does, and mentions all its options."""
    monkeypatch.setenv("COLUMNS", "200")
    every = commands()
    assert len(every) >= 20
    expected = {"serve", "demo", "code", "verify", "seed import", "account enable"}
    assert {f"otpseal {name}" for name in expected} <= set(every)

    for name, options in every.items():
        done = CliRunner().invoke(app, [*name.split()[1:], "--help"])
        assert (done.exit_code, done.stderr) == (0, ""), name
        for option in options:
            assert option in done.stdout, (name, option)
        assert len(done.stdout.split()) > 8, name
    assert "--data-dir" in otpseal("serve", "--help").stdout


# Beside a running server


def test_commands_work_while_the_server_runs(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """On the same store: each sees at once what the other did."""
    with serving(tmp_path, service_keys) as server:
        shell = Shell(tmp_path, service_keys)
        assert shell("seed", "import", shell.sealed).returncode == 0
        code = server.get("/generate-2fa").json["code"]
        assert shell("verify", code).stdout == "valid\n"
        assert server.verify(code).json == {"valid": False}

        assert shell("account", "disable").returncode == 0
        assert server.verify(code).status == 403
        assert shell("account", "enable").returncode == 0
        assert server.verify("000000x").json == {"valid": False}

        assert shell("seed", "replace", shell.other).returncode == 0
        now = time.time()
        codes = {code_at(now - 30, OTHER_SEED), code_at(now, OTHER_SEED)}
        codes.add(code_at(now + 30, OTHER_SEED))
        assert server.get("/generate-2fa").json["code"] in codes


def test_ctrl_c_stops_the_server(tmp_path: Path, service_keys: RsaKeys) -> None:
    """SIGINT as SIGTERM: exit 0, nothing but the one line that it was ready."""
    with serving(tmp_path, service_keys) as server:
        os.kill(server.process.pid, signal.SIGINT)

        assert server.process.wait(10) == 0
        assert server.log() == f"otpseal ready on {server.url}\n"


def test_an_address_that_is_taken(seeded: Shell) -> None:
    """Exit 2 that says how to choose another, before anything is opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, text = refused(seeded("serve", "--port", str(port)))

    assert code == 2
    assert text == (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use. Choose"
        " another with --host and --port (0 takes a free port)"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 70])
def test_a_host_that_is_none(seeded: Shell, host: str) -> None:
    """Exit 2, also for what no resolver would take."""
    done = seeded("serve", "--host", host, "--port", "0", classic_access="off")

    code, text = refused(done)

    assert code == 2
    assert text.startswith(f"cannot listen on {host} port 0: ")


def test_ipv6_loopback(tmp_path: Path, service_keys: RsaKeys) -> None:
    """Open by itself, and its URL can be used as it is printed."""
    import httpx2

    with serving(tmp_path, service_keys, host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"

        reply = httpx2.get(f"{server.url}/health", trust_env=False)

    assert (reply.status_code, reply.content) == (200, b'{"status":"ok"}')
