"""`otpseal authority renew`, and the certificate that `seed enrol` is given."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from authority_fixtures import ask, authority_over, served
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from enrolment_fixtures import NAME, SIGNING_KEY, STORAGE_KEY, Desk
from test_cli_authority import authority_in, otpseal
from test_cli_enrol import AUTHORITY_KEYS, FILES, done, enrol, pin, ticket_for

from otpseal import certificates, enrolment_request, keypolicy
from otpseal.adapters.file_keys import RsaKeys, load_keys, write_key_pair
from otpseal.certificates import Issuer, make_ca, pem
from otpseal.enrolment import EnrolmentDesk
from otpseal.http.authority import create_authority_app
from otpseal.issuing import Certify, Identity
from otpseal.signed_envelope import Signer

DAY = 86_400
CA_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGE_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def service_at(tmp_path: Path, service_keys: RsaKeys) -> Path:
    """A directory for a service, with its key."""
    directory = tmp_path / "service"
    write_key_pair(
        service_keys._private_key, directory / "data/keys/student_private.pem"
    )
    return directory


def load_signing_public(keys: Path) -> Ed25519PublicKey:
    """Return the key of the certificate that `init` made."""
    made = (keys / "signing_certificate.pem").read_bytes()
    key = x509.load_pem_x509_certificate(made).public_key()
    assert isinstance(key, Ed25519PublicKey)
    return key


def test_a_running_authority_takes_a_renewal(
    tmp_path: Path, service_at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New key and all, without a restart: who pinned the CA goes on."""
    monkeypatch.setenv("OTPSEAL_AUTHORITY_PINNED_BY", "ca")
    done(tmp_path, "authority", "init")
    pin(service_at, "authority", tmp_path / AUTHORITY_KEYS / FILES["ca"])
    jwks = tmp_path / AUTHORITY_KEYS / FILES["keys"]
    with authority_in(tmp_path) as running:
        done(tmp_path, "authority", "subscriber", "add", "shop")
        before = jwks.read_bytes()

        told = done(tmp_path, "authority", "renew", "--new-key")

        assert "must pin" in told
        assert before != jwks.read_bytes()
        shown = ask(running.port, "GET", "/.well-known/jwks.json").json
        assert json.loads(jwks.read_bytes()) == shown
        ticket_for(tmp_path, service_at, "shop/anna")
        assert (0, "") == enrol(service_at, running)[::2]
    assert "" == otpseal(tmp_path, "authority", "status").stderr


def test_a_renewal_is_told_to_programs(tmp_path: Path) -> None:
    """How long it lasts, and how long the CA does; a lost CA key is code 3."""
    done(tmp_path, "authority", "init")
    keys = tmp_path / AUTHORITY_KEYS
    with authority_in(tmp_path):
        pass

    told = json.loads(done(tmp_path, "authority", "renew", "--json"))

    assert told["ca_valid_until"] > told["valid_until"] > "2026"
    jwk, *pair = json.loads((tmp_path / told["jwks"]).read_bytes())["keys"]
    assert (told["kid"], 2) == (jwk["kid"], len(pair))
    assert not told["new_key"]
    (keys / "ca_private.pem").rename(tmp_path / "ca.pem")
    refused = otpseal(tmp_path, "authority", "renew")
    assert 3 == refused.returncode
    assert "--ca-key FILE" in refused.stderr
    assert done(tmp_path, "authority", "renew", "--ca-key", "ca.pem")


def test_what_ends_soon_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the running authority's log and by `status`; of the CA's end, by `renew`."""
    monkeypatch.setenv("OTPSEAL_AUTHORITY_PINNED_BY", "ca")
    done(tmp_path, "authority", "init")
    keys = tmp_path / AUTHORITY_KEYS
    now = time.time()
    ca = make_ca("authority", CA_KEY, now=now, days=20)
    key = load_signing_public(keys)
    signing = Issuer(ca, CA_KEY).issue_signing("authority", key, now=now, days=10)
    (keys / "ca_certificate.pem").write_bytes(pem(ca))
    (keys / "signing_certificate.pem").write_bytes(pem(signing))
    (keys / "ca_private.pem").unlink()
    (tmp_path / "ca.pem").write_bytes(keypolicy.private_pem(CA_KEY))
    (tmp_path / "ca.pem").chmod(0o600)
    with authority_in(tmp_path):
        pass

    status = otpseal(tmp_path, "authority", "status")
    renewed = otpseal(tmp_path, "authority", "renew", "--ca-key", "ca.pem")

    assert "authority renew" in (tmp_path / "authority.err").read_text()
    assert (0, "") == (status.returncode, status.stdout)
    assert "warning: the signing certificate ends in" in status.stderr
    assert 0 == renewed.returncode
    assert "it ends with its CA" in renewed.stderr


def by(issuer: Issuer, *, past: float = 0.0) -> Certify:
    """Return what issues so many seconds ago, for a day."""

    def certify(key: RSAPublicKey, subscriber: str, now: float) -> str:
        made = issuer.issue_subscriber(subscriber, key, now=now - past, days=1)
        return pem(made).decode()

    return certify


def for_signing(issuer: Issuer) -> Certify:
    """Return what issues certificates of the authority's own kind."""

    def certify(key: RSAPublicKey, subscriber: str, now: float) -> str:
        return pem(issuer.issue_signing(subscriber, key, now=now)).decode()

    return certify


@contextmanager
def giving(
    directory: Path, keys: RsaKeys, certify: Certify, chain: tuple[bytes, ...]
) -> Iterator[tuple[int, Desk]]:
    """Run an authority that gives certificates of any kind."""
    directory.mkdir()
    with authority_over(directory, keys, time.time) as authority:
        desk = Desk(authority.store, time.time)
        strange = EnrolmentDesk(
            authority.store,
            STORAGE_KEY,
            time.time,
            identity=lambda: Identity(NAME, Signer(SIGNING_KEY, chain), certify),
            read_request=enrolment_request.read,
        )
        app = create_authority_app(authority, desk=strange)
        with served(app) as port:
            yield port, desk


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("good", None),
        ("another key", "of another key"),
        ("expired", "expired"),
        ("another CA", "did not issue it"),
        ("wrong purpose", "not for receiving"),
        ("garbage", "no certificate"),
    ],
)
def test_a_certificate_that_is_not_ours_is_not_kept(
    tmp_path: Path,
    service_at: Path,
    other_keys: RsaKeys,
    kind: str,
    told: str | None,
) -> None:
    """It is said why, and code 5; the seed is stored and confirmed all the same."""
    now = time.time()
    ca = make_ca(NAME, CA_KEY, now=now - 9 * DAY)
    issuer = Issuer(ca, CA_KEY)
    strange = Issuer(make_ca(NAME, STRANGE_KEY, now=now), STRANGE_KEY)
    certify: Certify = {
        "good": by(issuer),
        "another key": lambda _key, who, at: by(issuer)(other_keys.public_key, who, at),
        "expired": by(issuer, past=5 * DAY),
        "another CA": by(strange),
        "wrong purpose": for_signing(issuer),
        "garbage": lambda _key, _who, _at: "\x1b[2J garbage",
    }[kind]
    signing = issuer.issue_signing(NAME, SIGNING_KEY.public_key(), now=now)
    (tmp_path / "ca.pem").write_bytes(pem(ca))
    pin(service_at, NAME, tmp_path / "ca.pem")
    out = service_at / "own.pem"
    chain = (certificates.der(signing),)
    with giving(tmp_path / "strange", other_keys, certify, chain) as (port, desk):
        (service_at / "ticket").write_bytes(desk.ticket().reveal() + b"\n")

        found = otpseal(
            service_at,
            *("seed", "enrol", f"http://127.0.0.1:{port}/", "--ticket-file", "ticket"),
            *("--certificate-out", "own.pem"),
        )

        (delivered,) = desk.book.deliveries()
    assert delivered.confirmed_at is not None
    assert "shop/anna" in done(service_at, "account", "list")
    assert "the authority knows" in found.stdout
    assert "\x1b" not in found.stderr
    if told is None:
        assert (0, "") == (found.returncode, found.stderr)
        kept = x509.load_pem_x509_certificate(out.read_bytes())
        own = load_keys(service_at / "data/keys/student_private.pem").public_key
        assert own == kept.public_key()
    else:
        assert 5 == found.returncode
        assert told in found.stderr
        assert not out.exists()
