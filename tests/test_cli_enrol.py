"""From `authority init` to `authority status`: two ends, each a process of its own."""

import json
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authority_fixtures import ask
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from enrolment_killed import POINTS
from test_cli_authority import Running, authority_in, otpseal
from trust_fixture import Headquarters

from otpseal import certificates
from otpseal.adapters.file_keys import (
    RsaKeys,
    generate_private_key,
    load_keys,
    write_key_pair,
)
from otpseal.certificate_profile import SEED_RECEIVING, subscriber_uri, verify
from otpseal.certificates import Issuer, make_ca
from otpseal.config import Settings
from otpseal.keypolicy import key_id
from otpseal.signed_envelope import Signer, open_envelope
from otpseal.subscribers import Offer
from otpseal.trust import Pinned
from otpseal.trust import pin as pin_authority
from otpseal.trust_book import TrustBook
from otpseal.wiring import open_authority, open_service
from otpseal.wiring_authority import initialise, jwks, make_book
from otpseal.wiring_pq import initialise_pq, pq_public_keys

AUTHORITY_KEYS = Path("data/authority/keys")

#: `otpseal seed enrol`, killed on its way.
KILLED = Path(__file__).with_name("enrolment_killed.py")

#: What services pin.
FILES = {"keys": "authority_jwks.json", "ca": "ca_certificate.pem"}


def done(directory: Path, *arguments: str) -> str:
    """Run a command that must succeed; return what it printed."""
    found = otpseal(directory, *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture
def service_at(tmp_path: Path, service_keys: RsaKeys) -> Path:
    """A directory for a service, with its key."""
    directory = tmp_path / "service"
    write_key_pair(
        service_keys._private_key, directory / "data/keys/student_private.pem"
    )
    return directory


def keys_of(service: Path) -> list[str]:
    """Return the kid of a service's key."""
    return [load_keys(service / "data/keys/student_private.pem").kid]


def pin(service: Path, name: str, file: Path) -> None:
    """Pin an authority in a service."""
    with open_service(Settings(data_dir=service / "data")) as opened:
        book = TrustBook(opened.store, opened.storage_key, time.time)
        book.add(name, file.read_bytes())


def ticket_for(authority: Path, service: Path, account: str, *more: str) -> None:
    """Give a ticket, and lay it into the service's directory.

    By the command if it has options; else as the command does it, without its start.
    """
    if more:
        ticket = done(authority, "authority", "ticket", "shop", account, *more)
    else:
        with open_authority(Settings(data_dir=authority / "data/authority")) as opened:
            given = make_book(opened).give_ticket("shop", Offer(account))
        ticket = given.ticket.reveal().decode("ascii") + "\n"
    (service / "ticket").write_text(ticket)


def enrol(service: Path, running: Running, *more: str) -> "tuple[int, str, str]":
    """Run `otpseal seed enrol`."""
    given = ("seed", "enrol", running.url, "--ticket-file", "ticket", *more)
    found = otpseal(service, *given)
    return found.returncode, found.stdout, found.stderr


@pytest.mark.parametrize(
    ("options", "pinned_by"),
    [((), "ca"), (("--ps256", "--rsa-ca"), "keys")],
    ids=["Ed25519 by its CA", "PS256 by its key"],
)
def test_from_init_to_status(
    tmp_path: Path,
    service_at: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    pinned_by: str,
) -> None:
    """A ticket becomes a seed that makes codes, and the authority knows it arrived."""
    monkeypatch.setenv("OTPSEAL_AUTHORITY_NAME", "hq")
    monkeypatch.setenv("OTPSEAL_AUTHORITY_PINNED_BY", pinned_by)
    done(tmp_path, "authority", "init", *options)
    pin(service_at, "hq", tmp_path / AUTHORITY_KEYS / FILES[pinned_by])
    with authority_in(tmp_path) as running:
        done(tmp_path, "authority", "subscriber", "add", "shop")
        ticket_for(tmp_path, service_at, "shop/anna", "--digits", "8")

        code, _, errors = enrol(service_at, running, "--certificate-out", "own.pem")

        # Who pinned keys has no CA to ask.
        told = "" if pinned_by == "ca" else "was not checked"
        assert 0 == code
        assert told in errors if told else not errors
        status = json.loads(done(tmp_path, "authority", "status", "--json"))
        assert 8 == len(done(service_at, "code", "--account", "shop/anna").split()[0])
        assert ["shop", "shop/anna", *keys_of(service_at)] == [
            status["subscriber"],
            status["account"],
            status["kid"],
        ]
        assert status["confirmed_at"] is not None
        assert status["event"] > 0
    ca = x509.load_pem_x509_certificate(
        (tmp_path / AUTHORITY_KEYS / "ca_certificate.pem").read_bytes()
    )
    own = x509.load_pem_x509_certificate((service_at / "own.pem").read_bytes())
    vouched = verify(
        ca,
        [own.public_bytes(Encoding.DER)],
        purpose=SEED_RECEIVING,
        name=subscriber_uri("shop"),
        now=time.time(),
    )
    assert vouched is not None
    assert [key_id(vouched)] == keys_of(service_at)


def test_an_envelope_carries_its_certificates(service_keys: RsaKeys) -> None:
    """A header with an x5c is far longer than joserfc takes by itself."""
    now = 1_800_000_000.0
    ca_key = generate_private_key(3072)
    ca = make_ca("hq", ca_key, now=now)
    signing_key = generate_private_key(3072)
    certificate = Issuer(ca, ca_key).issue_signing(
        "hq", signing_key.public_key(), now=now
    )
    hq = Headquarters(
        service_keys,
        signer=Signer(signing_key, (certificates.der(certificate),)),
    )

    opened = open_envelope(
        hq.seal(),
        unwrap={service_keys.kid: service_keys.oaep_decrypt}.get,
        pinned=Pinned([pin_authority("hq", "", certificates.pem(ca), now=now)], now),
    )

    assert "hq" == opened.authority


@pytest.fixture
def site(tmp_path: Path, service_at: Path) -> Iterator[Running]:
    """An authority that the service pinned, with the subscriber `shop`."""
    settings = Settings(data_dir=tmp_path / "data/authority")
    files = initialise(settings, ps256=False, rsa_ca=False)
    keys = [files.key.public_key(), *pq_public_keys(initialise_pq(settings))]
    pinned = tmp_path / AUTHORITY_KEYS / FILES["keys"]
    pinned.write_text(json.dumps(jwks(keys)))
    pin(service_at, "authority", pinned)
    with authority_in(tmp_path) as running:
        with open_authority(settings) as opened:
            make_book(opened).add("shop")
        yield running


def test_who_is_not_pinned_is_not_believed_and_it_is_said_what_to_compare(
    site: Running, tmp_path: Path, service_at: Path
) -> None:
    """Nothing is stored; pinned later, the same ticket does."""
    ticket_for(tmp_path, service_at, "a")
    done(service_at, "authority", "trust", "remove", "authority")

    code, said, errors = enrol(service_at, site)

    assert (1, "") == (code, said)
    assert "otpseal authority trust list" in errors
    assert "not by a pinned authority" in errors
    pin(service_at, "authority", tmp_path / AUTHORITY_KEYS / FILES["keys"])
    assert 0 == enrol(service_at, site)[0]


def test_a_ticket_is_used_up(
    site: Running, tmp_path: Path, service_at: Path, other_keys: RsaKeys
) -> None:
    """Another service with the same ticket gets nothing, nor who has no ticket."""
    ticket_for(tmp_path, service_at, "a")
    assert 0 == enrol(service_at, site)[0]
    thief = tmp_path / "thief"
    write_key_pair(other_keys._private_key, thief / "data/keys/student_private.pem")
    (thief / "ticket").write_bytes((service_at / "ticket").read_bytes())

    code, told, error = enrol(thief, site)

    assert (5, "") == (code, told)
    assert "ask its operator for a new ticket" in error
    (thief / "ticket").write_text("hello\n")
    assert (2, "") == enrol(thief, site)[:2]


def test_an_unpinned_authority_brings_nothing(tmp_path: Path, service_at: Path) -> None:
    """Whatever it answers; and the authority learns of no arrival."""
    done(tmp_path, "authority", "init")
    with authority_in(tmp_path) as running:
        done(tmp_path, "authority", "subscriber", "add", "shop")
        ticket_for(tmp_path, service_at, "a")

        code, told, _ = enrol(service_at, running)

        assert (1, "") == (code, told)
        assert "not confirmed" in done(tmp_path, "authority", "status")
    assert "a" not in done(service_at, "account", "list").split()


def test_a_receipt_is_brought_again(
    site: Running, tmp_path: Path, service_at: Path
) -> None:
    """If the authority was not there; the file of `seed enrol` is all it takes."""
    ticket_for(tmp_path, service_at, "a")
    assert 0 == enrol(service_at, site)[0]

    told = done(service_at, "seed", "confirm", site.url, "receipt.jws")

    assert "the authority knows\n" == told
    missing = otpseal(service_at, "seed", "confirm", site.url, "none")
    assert 2 == missing.returncode
    assert "none cannot be read: No such file" in missing.stderr
    (service_at / "receipt.jws").write_text("a.b.c")
    refused = otpseal(service_at, "seed", "confirm", site.url, "receipt.jws")
    assert 5 == refused.returncode


@pytest.mark.parametrize("point", POINTS)
def test_a_receipt_outlives_a_kill(
    site: Running, tmp_path: Path, service_at: Path, point: str
) -> None:
    """SIGKILL when the seed is stored and nobody was told: the same command ends it."""
    ticket_for(tmp_path, service_at, "shop/anna")
    given = (site.url, "--ticket-file", "ticket")

    killed = otpseal(service_at, point, *given, program=(str(KILLED),))

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    assert (point == "sending") == (service_at / "receipt.jws").exists()
    assert "not confirmed" in done(tmp_path, "authority", "status")
    told = done(service_at, "seed", "enrol", *given)
    assert (
        "the seed of shop/anna by authority was stored before; the authority knows now"
        == told.strip()
    )
    status = json.loads(done(tmp_path, "authority", "status", "--json"))
    assert status["confirmed_at"] is not None
    kinds = done(service_at, "audit", "list")
    assert 1 == kinds.count("envelope.accepted")
    assert 0 == kinds.count("envelope.replayed")


def test_a_lost_receipt_is_shown_again(
    site: Running, tmp_path: Path, service_at: Path
) -> None:
    """By account or by envelope, also when the ticket is of no use any more."""
    ticket_for(tmp_path, service_at, "shop/anna")
    assert 0 == enrol(service_at, site)[0]
    kept = (service_at / "receipt.jws").read_text()
    (service_at / "receipt.jws").unlink()
    done(tmp_path, "authority", "subscriber", "revoke", "shop")
    assert 5 == enrol(service_at, site)[0]

    by_account = done(service_at, "seed", "receipt", "--account", "shop/anna")
    told = done(
        service_at, "seed", "receipt", "--account", "shop/anna", "--out", "again"
    )

    assert kept == by_account == (service_at / "again").read_text()
    assert "shop/anna" in told
    for wrong in ((), ("ticket", "--account", "shop/anna")):
        assert 2 == otpseal(service_at, "seed", "receipt", *wrong).returncode
    for missing in (("ticket",), ("--account", "shop/bob")):
        refused = otpseal(service_at, "seed", "receipt", *missing)
        assert (1, "") == (refused.returncode, refused.stdout)


def test_an_envelope_that_came_before(
    tmp_path: Path, service_at: Path, service_keys: RsaKeys
) -> None:
    """Refused as a replay, audited, with the way to its receipt; which is the same."""
    hq = Headquarters(service_keys)
    (tmp_path / "hq.json").write_bytes(hq.public_jwks())
    pin(service_at, "hq", tmp_path / "hq.json")
    now = int(time.time())
    claims = hq.claims(issued_at=now, expires_at=now + 3600)
    (service_at / "envelope").write_text(hq.seal(claims) + "\n")
    brought = json.loads(done(service_at, "seed", "import", "envelope", "--json"))

    again = otpseal(service_at, "seed", "import", "envelope")

    assert (1, "") == (again.returncode, again.stdout)
    assert "otpseal seed receipt FILE" in again.stderr
    assert "envelope.replayed" in done(service_at, "audit", "list")
    shown = json.loads(done(service_at, "seed", "receipt", "envelope", "--json"))
    assert brought["receipt"] == shown["receipt"]
    assert ("shop/alice", "hq") == (shown["account"], shown["authority"])
    assert shown["has_seed"]
    done(service_at, "account", "delete", "shop/alice", "--yes")
    gone = otpseal(service_at, "seed", "receipt", "envelope")
    assert (0, shown["receipt"]) == (gone.returncode, gone.stdout.strip())
    assert "one that is gone" in gone.stderr


def test_what_commands_refuse_is_audited(
    tmp_path: Path,
    service_at: Path,
    service_keys: RsaKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A suite that is off, and a pin that somebody else wrote into the database."""
    hq = Headquarters(service_keys)
    (tmp_path / "hq.json").write_bytes(hq.public_jwks())
    pin(service_at, "hq", tmp_path / "hq.json")
    (service_at / "envelope").write_text(hq.seal())
    given = ("seed", "import", "envelope")
    with monkeypatch.context() as off:
        off.setenv("OTPSEAL_ACCEPT_SUITES", "classic,pq")
        assert 1 == otpseal(service_at, *given).returncode
    settings = Settings(data_dir=service_at / "data")
    with open_service(settings) as opened, opened.store.transaction() as tx:
        (row,) = tx.pinned_authorities()
        tx.pin_authority(replace(row, prefix="bank/"))

    assert 3 <= otpseal(service_at, *given).returncode
    pinning = ("authority", "trust", "add", "new", str(tmp_path / "hq.json"))
    assert 3 <= otpseal(service_at, *pinning).returncode

    listed = done(service_at, "audit", "list")
    assert 1 == listed.count("suite.refused")
    assert 1 == listed.count("authority.pin-forged")
    assert [] == done(service_at, "account", "list").split()


def test_a_seed_that_is_gone_is_not_confirmed(
    site: Running, tmp_path: Path, service_at: Path
) -> None:
    """Deleted between two runs: the second says so, and tells the authority nothing."""
    ticket_for(tmp_path, service_at, "shop/anna")
    given = (site.url, "--ticket-file", "ticket")
    otpseal(service_at, "writing", *given, program=(str(KILLED),))
    done(service_at, "account", "delete", "shop/anna", "--yes")

    code, told, error = enrol(service_at, site)

    assert (1, "") == (code, told)
    assert "ask the authority's operator for a new ticket" in error
    assert "not confirmed" in done(tmp_path, "authority", "status")


def test_subscribers_are_listed_and_revoked(
    site: Running, tmp_path: Path, service_at: Path
) -> None:
    """A revoked one's ticket is good no more, at once."""
    ticket_for(tmp_path, service_at, "a")

    done(tmp_path, "authority", "subscriber", "revoke", "shop")

    assert 5 == enrol(service_at, site)[0]
    listed = json.loads(done(tmp_path, "authority", "subscriber", "list", "--json"))
    assert ("shop", "revoked") == (listed["subscriber"], listed["state"])
    again = otpseal(tmp_path, "authority", "ticket", "shop", "a")
    assert (1, "") == (again.returncode, again.stdout)


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Private halves are 0600; a second init changes none of the files."""
    told = json.loads(done(tmp_path, "authority", "init", "--json"))
    directory = tmp_path / AUTHORITY_KEYS
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    again = otpseal(tmp_path, "authority", "init", "--ps256")

    assert (3, "") == (again.returncode, again.stdout)
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()
    }
    assert {
        "ca_private.pem": 0o600,
        "signing_private.pem": 0o600,
        "ca_certificate.pem": 0o644,
        "signing_certificate.pem": 0o644,
        "authority_jwks.json": 0o644,
        "pq_signing_private.pem": 0o600,
    } == modes
    jwks = json.loads((directory / "authority_jwks.json").read_text())["keys"]
    assert [told["kid"], *told["pq_kids"]] == [jwk["kid"] for jwk in jwks]
    assert not any({"d", "priv", "seed"} & set(jwk) for jwk in jwks)


def test_the_pair_is_added_later(tmp_path: Path, service_at: Path) -> None:
    """To an authority of before: once, by itself, and nothing else changes."""
    early = otpseal(tmp_path, "authority", "init", "--add-pq")
    assert (2, "") == (early.returncode, early.stdout)
    done(tmp_path, "authority", "init", "--ps256")
    directory = tmp_path / AUTHORITY_KEYS
    (directory / "pq_signing_private.pem").unlink()
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    mixed = otpseal(tmp_path, "authority", "init", "--add-pq", "--rsa-ca")
    none = otpseal(tmp_path, "authority", "ticket", "shop", "a", "--suite", "pq")
    assert (2, "") == (mixed.returncode, mixed.stdout)
    assert (2, "") == (none.returncode, none.stdout)
    assert "init --add-pq" in none.stderr

    told = done(tmp_path, "authority", "init", "--add-pq")

    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"authority_jwks.json", "pq_signing_private.pem"} == changed
    assert "pin the keys anew" in told
    pin(service_at, "authority", directory / "authority_jwks.json")
    again = otpseal(tmp_path, "authority", "init", "--add-pq")
    assert 3 == again.returncode
    assert after == {path.name: path.read_bytes() for path in directory.iterdir()}


def test_another_ca_leaves_the_pair(tmp_path: Path) -> None:
    """Once the CA's files are moved away, as is advised; the pair is under no CA."""
    first = json.loads(done(tmp_path, "authority", "init", "--json"))
    directory = tmp_path / AUTHORITY_KEYS
    pair = (directory / "pq_signing_private.pem").read_bytes()
    for path in (*directory.glob("ca_*.pem"), *directory.glob("signing_*.pem")):
        path.rename(tmp_path / path.name)

    then = json.loads(done(tmp_path, "authority", "init", "--json"))

    assert first["kid"] != then["kid"]
    assert first["pq_kids"] == then["pq_kids"]
    assert pair == (directory / "pq_signing_private.pem").read_bytes()
    jwks = json.loads((directory / "authority_jwks.json").read_text())["keys"]
    assert [then["kid"], *then["pq_kids"]] == [jwk["kid"] for jwk in jwks]


def test_a_passphrase_is_the_pairs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of all private keys; without it the authority does not start."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple\n")
    monkeypatch.setenv("OTPSEAL_KEY_PASSPHRASE_FILE", str(secret))
    done(tmp_path, "authority", "init")
    content = (tmp_path / AUTHORITY_KEYS / "pq_signing_private.pem").read_text()
    assert 2 == content.count("BEGIN ENCRYPTED PRIVATE KEY")
    with authority_in(tmp_path) as running:
        assert 3 == len(ask(running.port, "GET", "/.well-known/jwks.json").json["keys"])
    monkeypatch.delenv("OTPSEAL_KEY_PASSPHRASE_FILE")

    assert 3 == otpseal(tmp_path, "authority", "serve", "--port", "0").returncode


def test_from_init_to_status_in_the_suite_pq(tmp_path: Path, service_at: Path) -> None:
    """Two ends, by commands alone: pinned by the JWKS, signed by both keys, confirmed.

    The service takes nothing but pq, so that no other envelope can have done it.
    """
    done(tmp_path, "authority", "init")
    with open_service(Settings(data_dir=service_at / "data")):
        """Makes the store."""
    jwks = tmp_path / AUTHORITY_KEYS / "authority_jwks.json"
    pinned = done(service_at, "authority", "trust", "add", "authority", str(jwks))
    for kid in [jwk["kid"] for jwk in json.loads(jwks.read_text())["keys"]]:
        assert kid in pinned
    with authority_in(tmp_path) as running, pytest.MonkeyPatch.context() as patch:
        done(tmp_path, "authority", "subscriber", "add", "shop")
        ticket_for(tmp_path, service_at, "shop/anna", "--suite", "pq")
        patch.setenv("OTPSEAL_ACCEPT_SUITES", "v1")
        code, told, error = enrol(service_at, running)
        assert (5, "") == (code, told)
        assert "OTPSEAL_ACCEPT_SUITES has to name pq" in error
        patch.setenv("OTPSEAL_ACCEPT_SUITES", "pq")

        assert 0 == enrol(service_at, running)[0]

        status = json.loads(done(tmp_path, "authority", "status", "--json"))
        with open_service(Settings(data_dir=service_at / "data")) as opened:
            (jwk,) = opened.service.own_keys.pq_jwks()
        assert ["shop/anna", "pq", jwk["kid"]] == [
            status["account"],
            status["suite"],
            status["kid"],
        ]
        assert status["confirmed_at"] is not None
        shown = done(service_at, "code", "--account", "shop/anna").split()[0]
        verified = done(service_at, "verify", shown, "--account", "shop/anna")
        assert "valid" in verified
        ticket_for(tmp_path, service_at, "shop/bert")
        assert 1 == enrol(service_at, running)[0]


def test_the_classic_form_has_no_ticket(site: Running, tmp_path: Path) -> None:
    """Nor a suite that there is none of."""
    for suite in ("classic", "v2"):
        found = otpseal(
            tmp_path, *("authority", "ticket", "shop", "a"), "--suite", suite
        )
        assert (found.returncode != 0, found.stdout) == (True, "")
    assert site.process.poll() is None


def test_the_running_authority_shows_its_keys(site: Running, tmp_path: Path) -> None:
    """The same as in the file that `init` wrote."""
    shown = ask(site.port, "GET", "/.well-known/jwks.json").json

    file = tmp_path / AUTHORITY_KEYS / "authority_jwks.json"
    assert json.loads(file.read_text()) == shown


def test_another_name_than_the_certificates_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services pinned the name: a changed setting would lose them all in silence."""
    done(tmp_path, "authority", "init")
    monkeypatch.setenv("OTPSEAL_AUTHORITY_NAME", "other")

    found = otpseal(tmp_path, "authority", "serve", "--port", "0")

    assert 2 == found.returncode
    assert "OTPSEAL_AUTHORITY_NAME is 'other'" in found.stderr
