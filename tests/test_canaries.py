"""No secret comes out: everything is driven, then everything is searched.

The program runs with every logger at DEBUG. Seed, token and passphrase are planted;
codes come as they come.
"""

import base64
import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import TurnedClock
from server_fixture import (
    Reply,
    Server,
    call,
    code_at,
    environment,
    opened_over,
    sealed_to,
    serving,
    wrong_code_at,
)

from otpseal import totp
from otpseal.account_state import State
from otpseal.adapters.file_keys import RsaKeys, public_path, write_key_pair
from otpseal.config import Access, Settings
from otpseal.errors import OtpsealError, SeedUnreadable, UnsealFailed
from otpseal.http.auth import Gate
from otpseal.secret import Secret
from otpseal.service import Attempt
from otpseal.storage_key import StorageKey
from otpseal.verification import Account

SEED = Secret(b"CANARY seed: 32 bytes, no others")
TOKEN = "CANARY-token-0123456789-abcdefghijkl"
PASSPHRASE = "CANARY passphrase of the private key"

#: Everything that logs, at DEBUG, whatever the program wants.
LOUD = (
    "import logging, runpy, sys;"
    "logging.basicConfig(level=logging.DEBUG, stream=sys.stderr);"
    "logging.Logger.setLevel = lambda *_: None;"
    "logging.getLogger('x').debug('loud');"
    "sys.argv[0] = 'otpseal';"
    "runpy.run_module('otpseal', run_name='__main__', alter_sys=False)"
)
PROGRAM = (sys.executable, "-c", LOUD)


def forms(secret: bytes) -> dict[str, bytes]:
    """Return the shapes in which a secret would be told."""
    return {
        "raw": secret,
        "hex": secret.hex().encode(),
        "upper hex": secret.hex().upper().encode(),
        "base32": base64.b32encode(secret).rstrip(b"="),
        "lower base32": base64.b32encode(secret).rstrip(b"=").lower(),
        "base64": base64.b64encode(secret).rstrip(b"="),
        "URL-safe base64": base64.urlsafe_b64encode(secret).rstrip(b"="),
        "repr": repr(secret)[2:-1].encode(),
        "part": secret[:16],
    }


SECRETS = {
    **{f"seed, {name}": form for name, form in forms(SEED.reveal()).items()},
    **{f"token, {name}": form for name, form in forms(TOKEN.encode()).items()},
    **{f"phrase, {name}": form for name, form in forms(PASSPHRASE.encode()).items()},
}


def found_in(haystack: bytes, extra: dict[str, bytes]) -> list[str]:
    """Return the names of the secrets that a text holds."""
    return [name for name, form in {**SECRETS, **extra}.items() if form in haystack]


@dataclass
class Driven:
    """What a run of everything left behind."""

    server: Server
    said: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    #: Codes and sealed seeds that went in or out.
    codes: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def driven(
    tmp_path_factory: pytest.TempPathFactory,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> Iterator[Driven]:
    """Everything that the service does, right and wrong, over HTTP and by command."""
    directory = tmp_path_factory.mktemp("canaries")
    settings = _plant(directory, service_keys)
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(directory, service_keys, program=PROGRAM, **settings)
        )
        run = Driven(server)
        _drive_imports(run, service_keys, other_keys)
        _drive_codes(run)
        _drive_faults(run)
        _drive_commands(run, settings)
        yield run


def _plant(directory: Path, keys: RsaKeys) -> dict[str, object]:
    (directory / "token").write_text(TOKEN)
    (directory / "phrase").write_text(PASSPHRASE)
    (directory / "wrong phrase").write_text("not this one")
    locked = directory / "locked.pem"
    write_key_pair(keys._private_key, locked, PASSPHRASE.encode())
    (directory / "sealed").write_text(sealed_to(keys, SEED))
    (directory / "plain").write_text(SEED.reveal().hex())
    return {
        "key_file": locked,
        "key_passphrase_file": directory / "phrase",
        "classic_access": "token",
        "classic_token_file": directory / "token",
        "code_log": directory / "last_code.txt",
    }


def _post(run: Driven, path: str, content: object, *, token: str = TOKEN) -> Reply:
    headers = {"Authorization": f"Bearer {token}"}
    reply = run.server.post(path, content, headers)
    run.said.append(repr(reply).encode() + reply.body)
    return reply


def _drive_imports(run: Driven, keys: RsaKeys, other_keys: RsaKeys) -> None:
    text = SEED.reveal().hex()
    path = "/decrypt-seed"
    bad = [
        text,  # the plain seed in the sealed one's place
        base64.b32encode(SEED.reveal()).decode(),
        sealed_to(other_keys, SEED),
        sealed_to(keys, SEED)[:-8],
        {"hex": text},
        [text],
    ]
    for content in bad:
        assert _post(run, path, {"encrypted_seed": content}).status in (422, 500)
    assert _post(run, path, text.encode()).status == 400
    assert _post(run, path, {"seed": text}).status == 400
    good = {"encrypted_seed": sealed_to(keys, SEED)}
    assert _post(run, path, good, token=TOKEN + "x").status == 401
    assert _post(run, path, good, token="CANARY-wrong-token").status == 401
    for _ in range(2):
        assert _post(run, path, good).status == 200
    other = {"encrypted_seed": sealed_to(keys, Secret(bytes(32)))}
    assert _post(run, path, other).status == 409
    run.codes["sealed seed"] = good["encrypted_seed"].encode()


def _drive_codes(run: Driven) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reply = call(run.server.port, "GET", "/generate-2fa", headers=headers)
    assert reply.status == 200  # its body alone may hold the code
    now = time.time()
    right = code_at(now, SEED)
    codes = [right, right, f" {right}", right + "\n", "x" + right, ""]
    codes += ["".join(chr(0xFF10 + int(digit)) for digit in right)]
    codes += [wrong_code_at(now, SEED)] * 7  # into the throttle
    for code in codes:
        assert _post(run, "/verify-2fa", {"code": code}).status in (200, 400, 429)
    assert _post(run, "/verify-2fa", {"code": int(right)}).status == 422
    assert _post(run, "/verify-2fa", {"code": [right]}).status == 422
    assert _post(run, f"/verify-2fa?code={right}", b"{").status == 400
    assert _post(run, f"/{right}", b"{}").status == 404
    for step in range(-2, 4):
        # Quoted: six digits alone are in every log by chance.
        code = code_at(now + 30 * step, SEED)
        for quote in ("'", '"', " ", ":", "="):
            run.codes[f"code {step}{quote}"] = f"{quote}{code}".encode()
    run.codes["wrong code"] = b'"' + wrong_code_at(now, SEED).encode()


def _drive_faults(run: Driven) -> None:
    database = run.server.directory / "data" / "otpseal.db"
    with closing(sqlite3.connect(database, timeout=10)) as db:
        ((good,),) = db.execute("SELECT sealed_seed FROM accounts").fetchall()
        db.execute("UPDATE accounts SET sealed_seed = x'01', wait_until = 0")
        db.commit()
        reply = _post(run, "/verify-2fa", {"code": code_at(time.time(), SEED)})
        assert reply.status == 500
        db.execute("UPDATE accounts SET sealed_seed = ?", [good])
        db.commit()
    away = database.with_name("away")
    database.rename(away)
    reply = _post(run, "/verify-2fa", {"code": code_at(time.time(), SEED)})
    assert reply.status == 503
    away.rename(database)


def _drive_commands(run: Driven, settings: dict[str, object]) -> None:
    directory = run.server.directory
    settings = {**settings, "data_dir": directory / "data"}
    text = SEED.reveal().hex()
    code = code_at(time.time(), SEED)
    wrong_phrase = {"key_passphrase_file": directory / "wrong phrase"}
    no_phrase = {"key_passphrase_file": directory / "missing"}
    wrong_token = {"classic_token_file": directory / "plain"}
    commands: list[tuple[list[str], str, dict[str, object]]] = [
        (["seed", "import", str(directory / "sealed")], "", {}),
        (["seed", "import", str(directory / "plain")], "", {}),
        (["seed", "import", "-"], text, {}),
        (["seed", "replace", "-"], text + "\n", {}),
        (["seed", "import", str(directory / "token")], "", {}),
        (["seed", "import", str(directory / "phrase")], "", {}),
        (["verify", "-"], code, {}),
        (["verify", "-"], wrong_code_at(time.time(), SEED), {}),
        (["verify", "-"], text, {}),
        (["verify", "-", "--json"], code, {}),
        (["account", "show"], "", {}),
        (["account", "show", "--json"], "", {}),
        (["account", "disable"], "", {}),
        (["account", "enable"], "", {}),
        (["audit", "list"], "", {}),
        (["audit", "list", "--json"], "", {}),
        (["audit", "prune"], "", {}),
        (["audit", "list"], "", wrong_phrase),
        (["audit", "list"], "", no_phrase),
        (["audit", "list"], "", {"key_passphrase_file": ""}),
        (["audit", "list"], "", {"key_file": directory / "token"}),
        (["serve", "--port", "0"], "", {"window_steps": TOKEN}),
        (["serve", "--port", "0"], "", {"classic_access": TOKEN}),
        (["serve"], "", {"port": PASSPHRASE}),
        (["serve", "--port", "0"], "", {"database_url": f"postgresql://u:{TOKEN}@h/d"}),
        (["serve", "--port", "0"], "", {"database_url": TOKEN}),
        (["serve", "--port", "-1"], "", wrong_token),
        (["proof", "create", "--commit", text], "", {}),
    ]

    def run_one(command: tuple[list[str], str, dict[str, object]]) -> bytes:
        arguments, stdin, changes = command
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=environment(**{**settings, **changes}),
            input=stdin.encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        out = done.stdout + done.stderr
        assert b"loud" in out
        assert b"Traceback" not in out, out
        return f"{arguments[:2]} ".encode() + out

    with ThreadPoolExecutor(3) as pool:
        run.commands += pool.map(run_one, commands)


def test_the_program_was_loud(driven: Driven) -> None:
    """The logs were at DEBUG, the store's statements among them: else all is easy."""
    log = driven.server.log()

    assert "INSERT INTO accounts" in log
    assert "DEBUG" in log


def test_answers_hold_no_secret(driven: Driven) -> None:
    """No answer, good or bad, but that of generate."""
    assert len(driven.said) > 25
    for answer in driven.said:
        assert found_in(answer, driven.codes) == []


def test_logs_hold_no_secret(driven: Driven) -> None:
    """Neither stdout nor stderr of the server, at any level."""
    assert found_in(driven.server.log().encode(), driven.codes) == []


def test_commands_tell_no_secret(driven: Driven) -> None:
    """Neither by their output nor by their errors, whatever was wrong."""
    for output in driven.commands:
        assert found_in(output, driven.codes) == [], output[:80]


def test_files_hold_no_secret(driven: Driven) -> None:
    """Database, journal and all else in the data directory, free pages included."""
    files = list((driven.server.directory / "data").rglob("*"))
    assert {path.name for path in files} >= {"otpseal.db", "store.lock"}

    for path in files:
        if path.is_file():
            assert found_in(path.read_bytes(), driven.codes) == [], path


def test_nothing_in_the_process_listing(driven: Driven) -> None:
    """Arguments and environment of the server name files, not secrets."""
    process = Path("/proc") / str(driven.server.process.pid)
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()

    assert found_in(shown, driven.codes) == []


def test_the_search_finds_what_it_looks_for(driven: Driven) -> None:
    """Negative control: the planted files hold every secret in its form."""
    directory = driven.server.directory

    assert "seed, hex" in found_in((directory / "plain").read_bytes(), {})
    assert "token, raw" in found_in((directory / "token").read_bytes(), {})
    assert "phrase, raw" in found_in((directory / "phrase").read_bytes(), {})
    sealed = (directory / "sealed").read_bytes()
    assert found_in(sealed, {"sealed": sealed}) == ["sealed"]


def test_objects_print_no_secret(
    tmp_path: Path,
    service_keys: RsaKeys,
    clock: TurnedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """repr, str and format of whatever holds one: tracebacks and debuggers print it."""
    storage_key = Secret(b"CANARY storage key of 32 bytes..")
    token_file, phrase_file = tmp_path / "token", tmp_path / "phrase"
    token_file.write_text(TOKEN)
    phrase_file.write_text(PASSPHRASE)
    settings = Settings(classic_token_file=token_file, key_passphrase_file=phrase_file)
    code = code_at(clock(), SEED)
    extra = {
        **{f"storage key, {n}": f for n, f in forms(storage_key.reveal()).items()},
        "code": code.encode(),
    }
    with opened_over(tmp_path, service_keys, clock) as opened:
        opened.service.import_seed(SEED, source="test")
        decision = opened.service.verify(code)
        things: list[object] = [
            SEED,
            Attempt(code),
            opened.service.show_code(),
            Account("default", State(), totp.candidates(SEED, clock(), window=1)),
            decision,
            decision.events,
            opened.service.verify(wrong_code_at(clock(), SEED)),
            settings,
            settings.classic_token(),
            Gate(Access.TOKEN, settings.classic_token()),
            StorageKey(storage_key),
            service_keys,
            opened,
            opened.service,
            opened.service.account(),
            opened.audit.newest(10),
            UnsealFailed(),
            SeedUnreadable("default"),
        ]

    with caplog.at_level(logging.DEBUG):
        for thing in things:
            logging.getLogger("canary").debug("%s %r", thing, thing)
            shown = f"{thing!r} {thing!s} {thing} {vars_of(thing)!r}"
            assert found_in(shown.encode(), extra) == [], type(thing)
    assert found_in(caplog.text.encode(), extra) == []


def vars_of(thing: object) -> dict[str, object]:
    """Return what a debugger would show of an object, one level deep."""
    return {
        name: value
        for name, value in getattr(thing, "__dict__", {}).items()
        # Subkeys are bytes in memory; nothing prints a StorageKey's fields.
        if not isinstance(value, bytes)
    }


def test_errors_repeat_nothing(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Deliberate errors, their causes and their arguments: nothing of the input."""
    text = SEED.reveal().hex()
    raised: list[BaseException] = []
    with opened_over(tmp_path, service_keys, clock) as opened:
        for sealed in (text, SEED.reveal().decode(), sealed_to(service_keys)[:-4]):
            with pytest.raises(OtpsealError) as caught:
                opened.service.import_sealed(sealed)
            raised.append(caught.value)

    for error in raised:
        seen: BaseException | None = error
        while seen is not None:
            shown = f"{seen!r} {seen!s} {seen.args!r}".encode()
            assert found_in(shown, {}) == []
            assert seen.__suppress_context__ or seen.__context__ is None
            seen = seen.__cause__


def test_the_public_half_is_public(driven: Driven) -> None:
    """Beside the locked private key lies the public one only."""
    locked = driven.server.directory / "locked.pem"

    assert b"ENCRYPTED PRIVATE KEY" in locked.read_bytes()
    assert b"PRIVATE" not in public_path(locked).read_bytes()
