"""From `authority init` to `authority status`: two ends, each a process of its own."""

import json
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_cli_authority import Running, authority_in, otpseal

from otpseal.adapters.file_keys import RsaKeys, load_keys, write_key_pair
from otpseal.certificate_profile import SEED_RECEIVING, subscriber_uri, verify
from otpseal.config import Settings
from otpseal.keypolicy import key_id
from otpseal.trust_book import TrustBook
from otpseal.wiring import open_service

AUTHORITY_KEYS = Path("data/authority/keys")

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
    """Give a ticket, and lay it into the service's directory."""
    ticket = done(authority, "authority", "ticket", "shop", account, *more)
    (service / "ticket").write_text(ticket)


def enrol(service: Path, running: Running, *more: str) -> "tuple[int, str, str]":
    """Run `otpseal seed enrol`."""
    given = ("seed", "enrol", running.url, "--ticket-file", "ticket", *more)
    found = otpseal(service, *given)
    return found.returncode, found.stdout, found.stderr


@pytest.mark.parametrize(
    ("options", "pinned_by"),
    [
        ((), "keys"),
        ((), "ca"),
        (("--ps256", "--rsa-ca"), "keys"),
        (("--ps256", "--rsa-ca"), "ca"),
    ],
    ids=["Ed25519 by key", "Ed25519 by CA", "PS256 by key", "PS256 by CA"],
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

        assert (0, "") == (code, errors)
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
