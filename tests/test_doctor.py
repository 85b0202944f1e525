"""`otpseal doctor`: each fault is found, nothing is changed, the service may run."""

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import small_disk
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from server_fixture import (
    SEED,
    copy_store,
    key_file_in,
    opened_over,
    otpseal,
    serving,
)

from otpseal import doctor
from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.certificates import make_ca, pem
from otpseal.config import Access, Settings
from otpseal.file_checks import check_cron
from otpseal.findings import Finding, Verdict
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_trust_book

NOW = 1_750_000_000.0
ED25519_PEM = (
    Ed25519PrivateKey.from_private_bytes(bytes(32))
    .public_key()
    .public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
)
LINE = "2025-06-15 15:06:40 - 2FA Code: 123456\n"


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys) -> Path:
    """A store with a seed and some events."""
    directory = tmp_path_factory.mktemp("seeded")
    with opened_over(directory, service_keys, lambda: NOW - 60) as opened:
        opened.service.import_seed(SEED, source="test")
        opened.service.show_code()
    return directory


@pytest.fixture
def settings(tmp_path: Path, seeded: Path, service_keys: RsaKeys) -> Settings:
    """Settings of a service in which all is well."""
    copy_store(seeded, tmp_path / "data")
    for path, mode in (("data", 0o700), ("data/otpseal.db", 0o600)):
        (tmp_path / path).chmod(mode)
    return Settings(
        data_dir=tmp_path / "data", key_file=key_file_in(tmp_path, service_keys)
    )


def changed(settings: Settings, **changes: object) -> Settings:
    """Return the settings with some others."""
    return settings.model_copy(update=changes)


def examined(settings: Settings, now: float = NOW) -> list[Finding]:
    """Return all findings at a time."""
    return list(doctor.examine(settings, clock=lambda: now))


def bad(settings: Settings, now: float = NOW) -> dict[str, tuple[Verdict, str]]:
    """Return what is not well: check -> verdict and text; all have an advice."""
    found = [f for f in examined(settings, now) if f.verdict is not Verdict.OK]
    assert all(finding.advice for finding in found)
    return {finding.check: (finding.verdict, finding.text) for finding in found}


def database(settings: Settings) -> Path:
    """Return the database's path."""
    return settings.sqlite_path


def execute(settings: Settings, statement: str) -> None:
    """Change the database behind the service's back."""
    with closing(sqlite3.connect(database(settings))) as db:
        db.execute(statement)
        db.commit()


def test_all_is_well(settings: Settings) -> None:
    """Every check has its line, and each is ok."""
    found = examined(settings)

    assert {Verdict.OK} == {finding.verdict for finding in found}
    assert [
        "configuration",
        "data directory",
        "database file",
        "private key file",
        "key and store",
        "seed",
        "audit log",
        "pinned authorities",
        "code log",
        "clock",
        "free space",
    ] == [finding.check for finding in found]


def test_nothing_is_changed(settings: Settings, tmp_path: Path) -> None:
    """No byte of any file, no new file but locks, no seed.txt adopted."""
    (tmp_path / "data" / "seed.txt").write_text(SEED.reveal().hex())
    (tmp_path / "keys" / "student_public.pem").unlink()

    def state() -> dict[str, str]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name not in ("store.lock", "store.turn", "otpseal.db-journal")
        }

    before = state()
    found = bad(settings)

    assert before == state()
    assert {"seed.txt"} == set(found)


def test_a_missing_store(tmp_path: Path) -> None:
    """A mistyped directory is a line, and is not made."""
    found = bad(Settings(data_dir=tmp_path / "typo"))

    assert Verdict.FAILURE is found["data directory"][0]
    assert "free space" not in found
    assert not (tmp_path / "typo").exists()


def remove_database(settings: Settings) -> None:
    """No database."""
    database(settings).unlink()


def remove_key(settings: Settings) -> None:
    """No key."""
    assert settings.key_file
    settings.key_file.unlink()


def open_key(settings: Settings) -> None:
    """A key that others can read."""
    assert settings.key_file
    settings.key_file.chmod(0o640)


def spoil_key(settings: Settings) -> None:
    """A key file that holds no key."""
    assert settings.key_file
    settings.key_file.write_text("no key")


def empty_database(settings: Settings) -> None:
    """A database without tables."""
    database(settings).write_bytes(b"")


def spoil_database(settings: Settings) -> None:
    """A file that is no database."""
    database(settings).write_bytes(b"x" * 5000)


def newer_schema(settings: Settings) -> None:
    """A database of a newer program."""
    execute(settings, "UPDATE alembic_version SET version_num = '9999'")


def older_schema(settings: Settings) -> None:
    """A database that is not up to date."""
    execute(settings, "UPDATE alembic_version SET version_num = '0000'")


def lose_record(settings: Settings) -> None:
    """A store without its storage key."""
    execute(settings, "DELETE FROM storage_keys")


def spoil_seed(settings: Settings) -> None:
    """A seed that does not decrypt."""
    execute(settings, "UPDATE accounts SET sealed_seed = x'01'")


def alter_event(settings: Settings) -> None:
    """An event that was altered."""
    execute(settings, "UPDATE audit_events SET account = 'x' WHERE id = 1")


def open_directory(settings: Settings) -> None:
    """A directory that others write to."""
    settings.data_dir.chmod(0o770)


@pytest.mark.parametrize(
    ("spoil", "check", "text"),
    [
        (remove_database, "database file", "No such file"),
        (remove_key, "private key file", "No such file"),
        (open_key, "private key file", "open to others (mode 0640)"),
        (spoil_key, "key and store", "private"),
        (empty_database, "key and store", "the store is empty"),
        (spoil_database, "key and store", "not a database"),
        (newer_schema, "key and store", "has schema 9999"),
        (older_schema, "key and store", "has schema 0000"),
        (lose_record, "key and store", "the store is empty"),
        (spoil_seed, "seed", "does not decrypt"),
        (alter_event, "audit log", "1 of the newest 2 events were altered"),
        (open_directory, "data directory", "written to by others"),
    ],
)
def test_failures(
    settings: Settings, spoil: Callable[[Settings], None], check: str, text: str
) -> None:
    """Each fault is a failure of its own check, in one line."""
    spoil(settings)

    verdict, found = bad(settings)[check]

    assert Verdict.FAILURE is verdict
    assert text in found
    assert "\n" not in found


def test_an_older_schema_is_left_as_it_is(settings: Settings) -> None:
    """The service brings it up to date; who only looks does not."""
    older_schema(settings)
    examined(settings)

    with closing(sqlite3.connect(database(settings))) as db:
        found = db.execute("SELECT version_num FROM alembic_version").fetchall()
    assert [("0000",)] == found


def test_another_key(settings: Settings, tmp_path: Path, other_keys: RsaKeys) -> None:
    """A good key that is not this store's."""
    path = tmp_path / "other.pem"
    write_key_pair(other_keys._private_key, path)

    found = bad(changed(settings, key_file=path))

    assert Verdict.FAILURE is found["key and store"][0]


@pytest.mark.parametrize(
    ("name", "mode", "check"),
    [
        ("data", 0o750, "data directory"),
        ("data/otpseal.db", 0o644, "database file"),
        ("token", 0o644, "token file"),
        ("token", 0o640, "metrics token file"),
    ],
)
def test_what_others_can_read_is_a_warning(
    settings: Settings, tmp_path: Path, name: str, mode: int, check: str
) -> None:
    """With the mode, and the command that mends it; the rest is looked at."""
    token = tmp_path / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    (tmp_path / name).chmod(mode)
    which = "metrics_token_file" if "metrics" in check else "classic_token_file"
    settings = changed(settings, **{which: token})

    (finding,) = [f for f in examined(settings) if f.verdict is not Verdict.OK]

    assert (check, Verdict.WARNING) == (finding.check, finding.verdict)
    assert f"(mode {mode:04o})" in finding.text
    assert re.match(r"chmod [67]00 ", finding.advice)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_as_another_user_the_store_is_left_alone(settings: Settings) -> None:
    """Root's lock files would lock the service out of its own store."""
    os.chown(settings.data_dir, 12345, 12345)

    found = bad(settings)

    assert Verdict.FAILURE is found["data directory"][0]
    assert "belongs to uid 12345" in found["data directory"][1]
    assert (Verdict.WARNING, "not looked into") == found["store"]
    assert not (settings.data_dir / "store.lock").exists()


def test_configuration(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No choice of access, open to a network, a short token, a misspelt name."""
    check = "configuration"
    (tmp_path / "short").write_text("short")
    (tmp_path / "short").chmod(0o600)
    anywhere = changed(settings, host="0.0.0.0")
    short = changed(settings, metrics_token_file=tmp_path / "short")

    assert Verdict.FAILURE is bad(anywhere)[check][0]
    opened = bad(changed(anywhere, classic_access=Access.OPEN))[check]
    assert Verdict.WARNING is opened[0]
    assert Verdict.FAILURE is bad(short)[check][0]
    assert "short" in bad(short)[check][1]
    monkeypatch.setenv("OTPSEAL_CLASSIC_ACESS", "token")
    assert "OTPSEAL_CLASSIC_ACESS is no setting" in bad(settings)[check][1]


def test_the_clock(settings: Settings) -> None:
    """Before this program was written; behind the newest event."""
    assert Verdict.FAILURE is bad(settings, now=1_000_000_000.0)["clock"][0]
    assert {} == bad(settings, now=NOW - 64)
    found = bad(settings, now=NOW - 66)
    assert {"clock and events"} == set(found)
    assert "6 s behind the newest event" in found["clock and events"][1]


def test_the_code_log(settings: Settings, tmp_path: Path) -> None:
    """Missing directory, foreign or torn lines, no line for too long."""
    log = tmp_path / "cron" / "last_code.txt"
    settings = changed(settings, code_log=log)
    check = "code log"
    assert "is missing" in bad(settings)[check][1]

    log.parent.mkdir()
    assert {} == bad(settings)  # the seed came a minute ago
    assert "no line for 210 s" in bad(settings, now=NOW + 150)[check][1]
    log.write_text(LINE)
    assert {} == bad(settings, now=NOW + 150)
    assert (Verdict.FAILURE, "no line for 151 s") == bad(settings, NOW + 151)[check]
    for text in (LINE + LINE[:20], LINE + "Traceback\n", LINE + "\n"):
        log.write_text(text)
        assert Verdict.WARNING is bad(settings)[check][0]


def test_the_end_of_the_code_log(tmp_path: Path) -> None:
    """A link, a directory and a FIFO are none; asking waits for no writer."""
    path = tmp_path / "log"
    code_log = FileCodeLog(path, max_bytes=10_000)
    assert code_log.ends_well()
    path.write_text("")
    assert code_log.ends_well()
    path.write_text(LINE * 3)
    assert code_log.ends_well()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert not code_log.ends_well()
    path.unlink()
    os.mkfifo(path)
    assert not code_log.ends_well()


def test_free_space(settings: Settings, tmp_path: Path) -> None:
    """Below 5 % is a failure, also on the code log's disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    settings = changed(settings, code_log=disk / "last_code.txt")
    with small_disk.tmpfs(disk) as full:
        assert {} == bad(settings)
        with full():
            verdict, text = bad(settings)["free space"]

    assert Verdict.FAILURE is verdict
    assert re.fullmatch(rf"{re.escape(str(disk))}: [0-4]% free", text)


@pytest.mark.skipif(os.geteuid() != 0, reason="cron's tables are root's")
def test_the_cron_table(tmp_path: Path) -> None:
    """What cron drops in silence is told: CR, no last newline, mode, owner."""
    table = tmp_path / "2fa-cron"
    good = "* * * * * otpseal true\n"

    def verdict(content: str, mode: int = 0o644, uid: int = 0) -> Verdict:
        table.write_bytes(content.encode())
        table.chmod(mode)
        os.chown(table, uid, 0)
        (finding,) = check_cron(table)
        return finding.verdict

    assert Verdict.OK is verdict(good)
    assert Verdict.FAILURE is verdict(good.replace("\n", "\r\n"))
    assert Verdict.FAILURE is verdict(good.strip())
    assert Verdict.FAILURE is verdict(good, mode=0o664)
    assert Verdict.FAILURE is verdict(good, uid=12345)
    (missing,) = check_cron(tmp_path / "none")
    assert Verdict.FAILURE is missing.verdict


# The command.


def ask(settings: Settings, *arguments: str, **others: object) -> Any:  # noqa: ANN401
    """Run `otpseal doctor`."""
    given = {"data_dir": settings.data_dir, "key_file": settings.key_file, **others}
    return otpseal("doctor", *arguments, **given)


def test_the_command(settings: Settings) -> None:
    """A table and 0 if nothing failed; 1, and what to do, if anything did."""
    done = ask(settings)
    assert (0, "") == (done.returncode, done.stderr)
    assert re.search(r"^ *ok +key and store +belong together, key id ", done.stdout, 8)

    settings.data_dir.chmod(0o750)
    done = ask(settings)
    assert 0 == done.returncode
    assert re.search(r"^ *warning +data directory +", done.stdout, re.MULTILINE)

    spoil_seed(settings)
    done = ask(settings)
    assert (1, "") == (done.returncode, done.stderr)
    assert re.search(r"^ *failure +seed +the stored seed does not", done.stdout, 8)
    assert "-> restore the database from a backup" in done.stdout


def test_the_command_in_json(settings: Settings, tmp_path: Path) -> None:
    """One object for scripts; also when the settings cannot be read at all."""
    done = ask(settings, "--json")
    answer = json.loads(done.stdout)
    assert (0, True) == (done.returncode, answer["healthy"])
    assert {"check", "verdict", "text", "advice"} == set(answer["findings"][0])

    for others in ({"port": "x"}, {"data_dir": tmp_path / "typo"}):
        done = ask(settings, "--json", **others)
        answer = json.loads(done.stdout)
        assert (1, False) == (done.returncode, answer["healthy"])
        assert "Traceback" not in done.stderr


def test_while_the_service_runs(tmp_path: Path, service_keys: RsaKeys) -> None:
    """Both work on."""
    with serving(tmp_path, service_keys) as server:
        settings = Settings(data_dir=tmp_path / "data", key_file=server.key_file)
        for _ in range(3):
            assert 0 == ask(settings).returncode
            assert 500 == server.get("/generate-2fa").status
        assert {} == bad(settings, now=time.time())


# Pinned authorities.


def pinned_in(settings: Settings, name: str, file: bytes, **options: Any) -> None:  # noqa: ANN401
    """Pin an authority, as the command does."""
    with open_service(settings, create=False, clock=lambda: NOW) as opened:
        book = make_trust_book(opened, clock=lambda: NOW)
        book.add(name, file, **options)


def test_an_authority_that_nobody_pinned_is_named(settings: Settings) -> None:
    """Whoever can write the database may plant a row, and it is found."""
    pinned_in(settings, "uni", ED25519_PEM)
    assert {} == bad(settings)

    execute(settings, "UPDATE pinned_authorities SET prefix = 'shop/'")

    verdict, text = bad(settings)["pinned authorities"]
    assert (Verdict.FAILURE, True) == (verdict, "uni" in text)
    execute(settings, "UPDATE pinned_authorities SET name = char(27) || 'x'")
    assert "\x1b" not in bad(settings)["pinned authorities"][1]


@pytest.mark.parametrize("then", ["removed", "replaced"])
def test_an_authority_that_was_put_back_is_named(settings: Settings, then: str) -> None:
    """Its MAC is good, but the audit log knows that it was removed or replaced."""
    pinned_in(settings, "uni", ED25519_PEM)
    execute(settings, "CREATE TABLE kept AS SELECT * FROM pinned_authorities")
    if then == "removed":
        with open_service(settings, create=False, clock=lambda: NOW) as opened:
            make_trust_book(opened, clock=lambda: NOW).remove("uni")
    else:
        pinned_in(settings, "uni", ED25519_PEM, prefix="shop/", replace=True)
    assert {} == bad(settings)

    execute(settings, "INSERT OR REPLACE INTO pinned_authorities SELECT * FROM kept")

    verdict, text = bad(settings)["pinned authorities"]
    assert (Verdict.FAILURE, True) == (verdict, "uni" in text)


def test_a_ca_that_ends_is_told_of(settings: Settings) -> None:
    """In time to pin the next one."""
    key = ec.generate_private_key(ec.SECP256R1())
    pinned_in(settings, "uni", pem(make_ca("CA", key, now=NOW, days=31)))

    assert "pinned authorities" not in bad(settings)
    verdict, text = bad(settings, NOW + 2 * 86_400)["pinned authorities"]
    assert (Verdict.WARNING, "the CA of uni ends in 29 days") == (verdict, text)
