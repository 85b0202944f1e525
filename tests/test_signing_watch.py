"""A running authority signs by its files as they are, and by nothing that has ended."""

import json
import logging
from pathlib import Path

import pytest
from conftest import TurnedClock
from enrolment_fixtures import Service
from renewal_fixture import DAY, initialised, opened_at

from otpseal import public_jwk, signing_watch
from otpseal.adapters import signing_files
from otpseal.adapters.file_keys import RsaKeys
from otpseal.config import PinnedBy, Settings
from otpseal.errors import CertificateExpired
from otpseal.signing_watch import SigningWatch
from otpseal.subscribers import Offer
from otpseal.suite import Suite
from otpseal.validity import Validity
from otpseal.wiring_authority import make_book, make_desk, signing_directory
from otpseal.wiring_pq import initialise_pq
from otpseal.wiring_renewal import renew


@pytest.fixture
def authority(tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock) -> Settings:
    """An authority that services pinned by its CA."""
    return initialised(tmp_path / "authority", other_keys, clock)


@pytest.fixture
def watch(authority: Settings) -> SigningWatch:
    """Its files, as a running authority follows them."""
    found = signing_watch.watch(authority)
    assert found is not None
    return found


def test_a_renewal_needs_no_restart(
    authority: Settings, watch: SigningWatch, clock: TurnedClock
) -> None:
    """The next envelope is signed by the new key, and the key set shows it."""
    before = watch.files()
    shown = watch.jwks()

    with opened_at(authority, clock) as opened:
        done = renew(opened, authority, new_key=True, clock=clock)
        identity = watch.identity()

    assert shown != watch.jwks()
    assert [done.kid] == [key["kid"] for key in watch.jwks()["keys"]]
    assert done.kid == public_jwk.thumbprint(identity.signer.key.public_key())
    assert before.certificate != watch.files().certificate


def test_what_could_not_be_loaded_is_tried_again(
    authority: Settings, clock: TurnedClock, tmp_path: Path
) -> None:
    """Where the passphrase was away for a moment, the files do not change again."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple\n")
    settings = authority.model_copy(update={"key_passphrase_file": secret})
    watch = signing_watch.watch(settings, monotonic=clock)
    assert watch is not None
    clock.turn(DAY)
    with opened_at(settings, clock) as opened:
        done = renew(opened, settings, clock=clock)
    secret.rename(tmp_path / "elsewhere")
    assert done.valid != Validity.of(watch.files().certificate)
    (tmp_path / "elsewhere").rename(secret)
    assert done.valid != Validity.of(watch.files().certificate)

    clock.turn(signing_watch.RETRY_S)

    assert done.valid == Validity.of(watch.files().certificate)


def test_a_pair_that_is_added_needs_no_restart(
    authority: Settings, watch: SigningWatch, clock: TurnedClock
) -> None:
    """Envelopes of the suite pq, and what services pin; a renewal leaves it there."""
    assert len(watch.jwks()["keys"]) == 1

    pair = initialise_pq(authority)

    with opened_at(authority, clock) as opened:
        assert watch.identity().pq_signer is not None
        done = renew(opened, authority, new_key=True, clock=clock)
    written = json.loads(done.jwks.read_text())
    assert [key["kid"] for key in written["keys"]] == [done.kid, *pair.kids]
    assert written == watch.jwks()


def test_an_expired_certificate_ends_nothing_of_the_suite_pq(
    authority: Settings, clock: TurnedClock, service_keys: RsaKeys
) -> None:
    """It travels with the other suite's envelopes alone."""
    initialise_pq(authority)
    clock.turn(366 * DAY)
    watch = signing_watch.watch(authority)
    assert watch is not None
    with opened_at(authority, clock) as opened:
        book = make_book(opened, clock=clock)
        book.add("shop")
        answered = {}
        for suite in (Suite.V1, Suite.PQ):
            ticket = book.give_ticket("shop", Offer("a", suite=suite)).ticket
            desk = make_desk(opened, watch.identity, clock=clock)
            service = Service(service_keys)
            try:
                answered[suite] = bool(service.enrol(desk, ticket))
            except CertificateExpired:
                answered[suite] = False

    assert answered == {Suite.V1: False, Suite.PQ: True}


def test_what_did_not_change_is_not_read_again(watch: SigningWatch) -> None:
    """An RSA key takes its time to load."""
    assert watch.files() is watch.files()


@pytest.mark.parametrize("how", ["noise", "gone", "foreign"])
def test_what_is_broken_is_not_taken(
    authority: Settings,
    watch: SigningWatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    """It goes on as it did, says so once, and takes what is right again."""
    before = watch.files()
    key = signing_directory(authority) / signing_files.SIGNING_KEY_NAME
    right = key.read_bytes()
    if how == "gone":
        key.unlink()
    elif how == "noise":
        key.write_bytes(b"noise")
    else:
        certificate = key.with_name(signing_files.SIGNING_CERTIFICATE_NAME)
        certificate.write_bytes(
            key.with_name(signing_files.CA_CERTIFICATE_NAME).read_bytes()
        )

    for _ in range(3):
        assert watch.files() is before

    assert 1 == len([r for r in caplog.records if r.levelno == logging.ERROR])
    if how != "foreign":
        key.write_bytes(right)
        key.chmod(0o600)
        assert watch.files() is not before


def test_nothing_is_issued_by_a_certificate_that_ended(
    authority: Settings,
    watch: SigningWatch,
    clock: TurnedClock,
    service_keys: RsaKeys,
) -> None:
    """No envelope and no lost ticket; a renewal, and the same request is answered.

    Nor is an answer repeated that was signed for a certificate that ended since.
    """
    service = Service(service_keys)
    clock.turn(365 * DAY + 1)
    with opened_at(authority, clock) as opened:
        book = make_book(opened, clock=clock)
        book.add("shop")
        ticket = book.give_ticket("shop", Offer("shop/anna")).ticket
        desk = make_desk(opened, watch.identity, clock=clock)

        with pytest.raises(CertificateExpired, match="authority renew"):
            desk.enrol(service.request(ticket))

        assert [] == book.deliveries()
        renew(opened, authority, clock=clock)
        desk = make_desk(opened, watch.identity, clock=clock)
        desk.enrol(service.request(ticket))
        assert ["shop/anna"] == [row.account for row in book.deliveries()]
        clock.turn(-400 * DAY)  # before the new certificate, not before the ticket
        with pytest.raises(CertificateExpired):
            desk.enrol(service.request(ticket))


def test_an_answer_ends_with_its_certificate(
    authority: Settings, clock: TurnedClock, service_keys: RsaKeys
) -> None:
    """The one that travels in it: a renewal does not make it good again."""
    clock.turn(365 * DAY - 3600)
    service = Service(service_keys)
    watch = signing_watch.watch(authority)
    assert watch is not None
    with opened_at(authority, clock) as opened:
        book = make_book(opened, clock=clock)
        book.add("shop")
        desk = make_desk(opened, watch.identity, clock=clock)
        ticket = book.give_ticket("shop", Offer("shop/anna")).ticket
        first = desk.enrol(service.request(ticket))
        renew(opened, authority, clock=clock)
        # While it is valid, it is repeated.
        assert first == desk.enrol(service.request(ticket))
        clock.turn(7200)

        with pytest.raises(CertificateExpired, match="new ticket"):
            desk.enrol(service.request(ticket))

        again = book.give_ticket("shop", Offer("shop/anna")).ticket
        assert first.envelope != desk.enrol(service.request(again)).envelope


def test_a_pinned_key_does_not_end(
    tmp_path: Path, other_keys: RsaKeys, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Where no certificate travels, none keeps the authority from answering."""
    settings = initialised(
        tmp_path / "authority", other_keys, clock, pinned_by=PinnedBy.KEYS
    )
    clock.turn(400 * DAY)
    with opened_at(settings, clock) as opened:
        book = make_book(opened, clock=clock)
        book.add("shop")
        ticket = book.give_ticket("shop", Offer("shop/anna")).ticket
        found = signing_watch.watch(settings)
        assert found is not None

        made = make_desk(opened, found.identity, clock=clock).enrol(
            Service(service_keys).request(ticket)
        )

    assert made.envelope
    assert signing_watch.due(settings, clock=clock) is None


def test_the_log_warns_in_time(
    authority: Settings,
    watch: SigningWatch,
    clock: TurnedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Thirty days before the end, and no earlier; as `authority status` does."""
    watch.warn(clock)
    assert [] == caplog.messages
    assert signing_watch.due(authority, clock=clock) is None
    clock.turn(336 * DAY)

    watch.warn(clock)

    (said,) = caplog.messages
    assert "ends in 29 days" in said
    assert said == signing_watch.due(authority, clock=clock)


def test_status_says_what_is_wrong_with_the_files(
    authority: Settings, clock: TurnedClock, tmp_path: Path
) -> None:
    """Instead of failing; and nothing where there are none."""
    (signing_directory(authority) / signing_files.CA_CERTIFICATE_NAME).unlink()

    said = signing_watch.due(authority, clock=clock)

    assert said is not None
    assert signing_files.CA_CERTIFICATE_NAME in said
    empty = Settings(data_dir=tmp_path / "empty")
    assert signing_watch.due(empty) is None
    assert signing_watch.watch(empty) is None
