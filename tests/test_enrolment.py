"""The authority's desk: a ticket is answered once, and receipts are believed."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from enrolment_fixtures import NAME, STORAGE_KEY, Desk, Service
from openssl_cli import openssl
from receipt_sample import parts, signed
from stores import STORES

from otpseal import base64url, enrolment_request, subscription
from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.enrolment import Enrolled, EnrolmentDesk
from otpseal.errors import (
    EnrolmentRefused,
    KeyRefused,
    OtpsealError,
    ParametersRefused,
    ReceiptRefused,
    SeedUnreadable,
    StoreUnavailable,
    SuiteRefused,
)
from otpseal.issuing import Identity
from otpseal.keypolicy import private_pem
from otpseal.kid import kid_of
from otpseal.ports import Store
from otpseal.pq_keys import ImportKey, ImportPublicKey
from otpseal.public_jwk import thumbprint
from otpseal.secret import Secret
from otpseal.signed_envelope import Signer
from otpseal.subscribers import Offer
from otpseal.suite import Suite
from otpseal.totp import OtpType, Parameters

RACERS = 8


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, in memory and on disk."""
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def authority(store: Store, clock: TurnedClock) -> Desk:
    """An authority over an empty store."""
    return Desk(store, clock)


@pytest.fixture
def service(service_keys: RsaKeys) -> Service:
    """A service with an import key."""
    return Service(service_keys)


@pytest.fixture
def other(other_keys: RsaKeys) -> Service:
    """Another service."""
    return Service(other_keys)


@pytest.fixture(scope="session")
def many_keys() -> list[RsaKeys]:
    """Small keys, one for each racer."""
    return [RsaKeys(generate_private_key(3072)) for _ in range(RACERS)]


def enrolled(authority: Desk, service: Service, ticket: Secret) -> Enrolled:
    """Enrol, with a receipt key."""
    return authority.desk.enrol(
        service.request(ticket, service.receipt_kid), receipt_key=service.receipt_public
    )


def refused(authority: Desk, service: Service, ticket: Secret) -> bool:
    """Tell whether an enrolment is refused, with the one text of all refusals."""
    with pytest.raises(EnrolmentRefused) as caught:
        enrolled(authority, service, ticket)
    return str(caught.value) == str(EnrolmentRefused())


# Enrolment.


def test_a_ticket_brings_an_envelope(
    authority: Desk, service: Service, clock: TurnedClock
) -> None:
    """For the ticket's account and the request's key, with what was offered."""
    authority.book.add("shop")
    offer = Offer("shop/anna", Parameters("SHA256", 8, 60), "Shop", "anna")
    ticket = authority.book.give_ticket("shop", offer).ticket

    answer = enrolled(authority, service, ticket)

    opened = service.open(answer.envelope)
    claims = opened.claims
    now = int(clock.now)
    assert (NAME, NAME) == (opened.authority, claims.issuer)
    assert (service.keys.kid, "shop/anna") == (claims.audience, claims.account)
    assert (offer.parameters, "Shop", "anna") == (
        claims.parameters,
        claims.service_name,
        claims.label,
    )
    assert (now, now + 7 * 86_400) == (claims.issued_at, claims.expires_at)
    assert now * 1000 == claims.sequence
    assert 32 == len(claims.seed)
    assert answer.certificate is None
    detail = {
        "subscriber": "shop",
        "suite": "v1",
        "kid": service.keys.kid,
        "jti": claims.jti,
        "seq": claims.sequence,
    }
    assert ("authority.envelope-issued", "shop/anna", detail) == authority.events()[-1]


@pytest.mark.parametrize(
    ("parameters", "length"),
    [
        (Parameters("SHA1"), 20),
        (Parameters("SHA512"), 64),
        (Parameters(type=OtpType.HOTP), 20),
    ],
)
def test_a_seed_is_as_long_as_its_hash(
    authority: Desk, service: Service, parameters: Parameters, length: int
) -> None:
    """RFC 4226 section 4, R6, and RFC 6238 section 5.1."""
    authority.book.add("shop")
    ticket = authority.book.give_ticket("shop", Offer("a", parameters)).ticket

    claims = service.open(enrolled(authority, service, ticket).envelope).claims

    assert length == len(claims.seed)
    assert parameters == claims.parameters


def test_a_request_by_hand_carries_hex(authority: Desk, service: Service) -> None:
    """`sha256sum` prints hex; that is taken as well."""
    digest = subscription.ticket_digest(authority.ticket())
    assert digest is not None

    answer = authority.desk.enrol(enrolment_request.make(service.keys, digest.hex()))

    assert "shop/anna" == service.open(answer.envelope).claims.account


def test_a_request_by_openssl_is_answered(
    authority: Desk, service: Service, tmp_path: Path
) -> None:
    """`openssl req -addext` names the keys beside it: as docs/protocol.md has it."""
    digest = subscription.ticket_digest(authority.ticket(suite=Suite.PQ))
    assert digest is not None
    key, config = tmp_path / "key.pem", tmp_path / "request.cnf"
    key.write_bytes(private_pem(service.keys._private_key))
    config.write_text(
        "[req]\ndistinguished_name=dn\nattributes=at\nprompt=no\n"
        f"[dn]\nCN=shop\n[at]\nchallengePassword={digest.hex()}\n"
    )
    urn = "URI:urn:ietf:params:oauth:jwk-thumbprint:sha-256:"
    names = f"{urn}{service.receipt_kid},{urn}{service.pq_key.kid}"

    csr = openssl(
        *("req", "-new", "-key", key, "-outform", "DER", "-config", config),
        *("-addext", f"subjectAltName={names}"),
    )

    answer = authority.desk.enrol(
        csr,
        receipt_key=service.receipt_public,
        pq_key=service.pq_key.public_key.raw,
    )
    assert "shop/anna" == service.open_pq(answer.envelope).claims.account


def test_the_same_request_has_the_same_answer(
    authority: Desk, service: Service, clock: TurnedClock
) -> None:
    """To the letter, as long as the ticket is good; it makes nothing new."""
    ticket = authority.ticket()
    first = enrolled(authority, service, ticket)
    clock.turn(86_399)

    again = enrolled(authority, service, ticket)

    assert first == again
    assert 1 == len(authority.book.deliveries())
    assert "authority.envelope-repeated" == authority.kinds()[-1]


def test_another_key_is_refused(
    authority: Desk, service: Service, other: Service
) -> None:
    """A used ticket is of no use to anyone else, and stays good for its owner."""
    ticket = authority.ticket()
    first = enrolled(authority, service, ticket)

    assert refused(authority, other, ticket)

    assert first == enrolled(authority, service, ticket)
    assert authority.kinds().count("authority.enrolment-refused") == 1


@pytest.mark.parametrize("is_used", [False, True])
def test_an_expired_ticket_is_refused(
    authority: Desk, service: Service, clock: TurnedClock, *, is_used: bool
) -> None:
    """After 24 hours, used or not."""
    ticket = authority.ticket()
    if is_used:
        enrolled(authority, service, ticket)
    clock.turn(86_400)

    assert refused(authority, service, ticket)


@pytest.mark.parametrize("is_used", [False, True])
def test_a_revoked_subscribers_ticket_is_refused(
    authority: Desk, service: Service, *, is_used: bool
) -> None:
    """From the next request on, used or not."""
    ticket = authority.ticket()
    if is_used:
        enrolled(authority, service, ticket)
    authority.book.revoke("shop")

    assert refused(authority, service, ticket)


def test_an_unknown_ticket_is_refused(authority: Desk, service: Service) -> None:
    """And one that is for another authority."""
    authority.ticket()

    assert refused(authority, service, subscription.new_ticket(bytes(32)))


def test_refusals_are_counted(
    authority: Desk, service: Service, clock: TurnedClock
) -> None:
    """The first is an event at once; a flood of them is one more a minute."""
    for _ in range(5):
        assert refused(authority, service, subscription.new_ticket(bytes(32)))
    clock.turn(60)
    assert refused(authority, service, subscription.new_ticket(bytes(32)))

    told = [event[2] for event in authority.events()]
    assert [{"count": 1}, {"count": 5}] == told


def test_what_strangers_sent_is_settled(
    authority: Desk, service: Service, clock: TurnedClock
) -> None:
    """Of both kinds, all of it, once; nothing is written where nothing came."""
    for _ in range(4):
        assert refused(authority, service, subscription.new_ticket(bytes(32)))
        with pytest.raises(ReceiptRefused):
            authority.desk.confirm("a.b.c")
    clock.turn(60)

    for _ in range(2):
        authority.desk.settle()

    assert [
        ("authority.enrolment-refused", 1),
        ("authority.receipt-refused", 1),
        ("authority.enrolment-refused", 3),
        ("authority.receipt-refused", 3),
    ] == [(kind, detail["count"]) for kind, _, detail in authority.events()]


def test_a_count_outlives_a_store_that_is_away(
    authority: Desk, monkeypatch: pytest.MonkeyPatch, clock: TurnedClock
) -> None:
    """What could not be written is written later, and nothing of it twice."""

    def away(**_: object) -> NoReturn:
        raise StoreUnavailable("away")

    with monkeypatch.context() as failing:
        failing.setattr(authority.store, "transaction", away)
        with pytest.raises(StoreUnavailable):
            authority.desk.enrol(b"noise")
        with pytest.raises(EnrolmentRefused):
            authority.desk.enrol(b"noise")
        with pytest.raises(StoreUnavailable):
            authority.desk.settle()

    authority.desk.settle()

    assert [{"count": 2}] == [detail for *_, detail in authority.events()]


@pytest.mark.parametrize("challenge", ["x", "A" * 44, "otpticket_" + "A" * 43])
def test_a_request_without_a_digest_is_refused(
    authority: Desk, service: Service, challenge: str
) -> None:
    """A ticket itself does not belong in a request either."""
    with pytest.raises(EnrolmentRefused):
        authority.desk.enrol(enrolment_request.make(service.keys, challenge))

    assert ["authority.enrolment-refused"] == authority.kinds()


def test_a_request_that_is_none_is_refused(authority: Desk, service: Service) -> None:
    """Noise, and a request that somebody changed on the way."""
    good = service.request(authority.ticket())

    for csr in (b"", b"noise", good[:-1] + bytes([good[-1] ^ 1])):
        with pytest.raises(EnrolmentRefused):
            authority.desk.enrol(csr)

    assert [] == authority.book.deliveries()


def test_a_weak_key_is_refused(authority: Desk) -> None:
    """Which key is too weak the service is told; the ticket stays good."""
    weak = RsaKeys(rsa.generate_private_key(65537, 2048))

    with pytest.raises(KeyRefused):
        enrolled(authority, Service(weak), authority.ticket())

    assert [] == authority.book.deliveries()


@pytest.mark.parametrize(
    "raw",
    [bytes(31), b"", bytes(32), b"\x01" + bytes(31)],
    ids=["31 bytes", "none", "order 4", "order 1"],
)
def test_a_wrong_receipt_key_is_refused(
    authority: Desk, service: Service, raw: bytes
) -> None:
    """Of another length, or a point of small order, by which anyone can sign."""
    kid = kid_of({"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(raw)})
    csr = service.request(authority.ticket(), kid)

    with pytest.raises(EnrolmentRefused):
        authority.desk.enrol(csr, receipt_key=raw)


# Keys that travel beside the request.


def swapped(
    authority: Desk, csr: bytes, *, receipt: bytes | None, pq: bytes | None
) -> bool:
    """Tell whether a request is refused with these keys beside it, as all are."""
    with pytest.raises(EnrolmentRefused) as caught:
        authority.desk.enrol(csr, receipt_key=receipt, pq_key=pq)
    assert "authority.enrolment-refused" == authority.kinds()[-1]
    return str(caught.value) == str(EnrolmentRefused())


@pytest.mark.parametrize("suite", [Suite.V1, Suite.PQ])
def test_keys_are_not_changed_on_the_way(
    authority: Desk, service: Service, other: Service, suite: Suite
) -> None:
    """Swapped, taken away, added, exchanged: refused, and the ticket stays good."""
    ticket = authority.ticket(suite=suite)
    both = service.request(ticket, service.receipt_kid, service.pq_key.kid)
    one = service.request(ticket, service.receipt_kid)
    bare = service.request(ticket)
    own, pq = service.receipt_public, service.pq_key.public_key.raw
    thiefs, thiefs_pq = other.receipt_public, other.pq_key.public_key.raw

    assert swapped(authority, both, receipt=thiefs, pq=pq)
    assert swapped(authority, both, receipt=own, pq=thiefs_pq)
    assert swapped(authority, both, receipt=None, pq=pq)
    assert swapped(authority, both, receipt=own, pq=None)
    assert swapped(authority, one, receipt=own, pq=thiefs_pq)
    assert swapped(authority, one, receipt=own, pq=pq)
    assert swapped(authority, bare, receipt=own, pq=None)
    assert swapped(authority, bare, receipt=None, pq=pq)

    assert [] == authority.book.deliveries()
    assert service.enrol(authority.desk, ticket)


def small_order(key: ImportKey) -> ImportPublicKey:
    """Return an import key whose X25519 half has order 1, as nobody lets one be."""
    made = object.__new__(ImportPublicKey)
    object.__setattr__(made, "raw", key.public_key.raw[:-32] + bytes(32))
    return made


def test_a_weak_pq_key_is_refused(authority: Desk, service: Service) -> None:
    """Of small order, not reduced, of another length: even if the request names it."""
    good = service.pq_key.public_key.raw
    unreduced = object.__new__(ImportPublicKey)
    object.__setattr__(unreduced, "raw", b"\xff" * 1184 + good[-32:])
    short = object.__new__(ImportPublicKey)
    object.__setattr__(short, "raw", good[:-1])
    ticket = authority.ticket(suite=Suite.PQ)

    for weak in (small_order(service.pq_key), unreduced, short):
        csr = service.request(ticket, service.receipt_kid, weak.kid)
        assert swapped(authority, csr, receipt=service.receipt_public, pq=weak.raw)

    assert [] == authority.book.deliveries()


# Tickets of the suite pq.


def test_a_pq_ticket_brings_a_pq_envelope(
    authority: Desk, service: Service, clock: TurnedClock
) -> None:
    """For the pq import key, signed by both keys; and its receipt is believed."""
    ticket = authority.ticket(suite=Suite.PQ)

    envelope = service.enrol(authority.desk, ticket)
    clock.turn(3)
    authority.desk.confirm(service.receipt(envelope, event=41))

    claims = service.open_pq(envelope).claims
    kid = service.pq_key.kid
    assert (NAME, kid, "shop/anna") == (claims.issuer, claims.audience, claims.account)
    (row,) = authority.book.deliveries()
    assert (Suite.PQ, kid, clock.now, 41) == (
        row.suite,
        row.kid,
        row.confirmed_at,
        row.event,
    )
    told = [detail for kind, _, detail in authority.events() if "issued" in kind]
    assert [("pq", kid)] == [(detail["suite"], detail["kid"]) for detail in told]


def test_a_pq_ticket_is_repeated_to_its_key_alone(
    authority: Desk, service: Service, other: Service
) -> None:
    """To the letter to the RSA key that took it; refused to others, as in v1."""
    ticket = authority.ticket(suite=Suite.PQ)

    first = service.enrol(authority.desk, ticket)

    assert first == service.enrol(authority.desk, ticket)
    with pytest.raises(EnrolmentRefused):
        other.enrol(authority.desk, ticket)
    assert 1 == len(authority.book.deliveries())


def test_a_pq_ticket_is_never_talked_down(authority: Desk, service: Service) -> None:
    """Without a pq key it says so, is counted, and the ticket is as good as before."""
    ticket = authority.ticket(suite=Suite.PQ)

    with pytest.raises(SuiteRefused, match="OTPSEAL_ACCEPT_SUITES"):
        enrolled(authority, service, ticket)

    assert "authority.enrolment-refused" == authority.kinds()[-1]
    assert [] == authority.book.deliveries()
    assert service.open_pq(service.enrol(authority.desk, ticket))


def test_who_has_no_ticket_is_not_told_of_suites(
    authority: Desk, service: Service, other: Service, clock: TurnedClock
) -> None:
    """Expired, revoked or another's, a pq ticket looks as any other."""
    taken, revoked = (
        authority.ticket(suite=Suite.PQ, subscriber=name) for name in ("a", "b")
    )
    service.enrol(authority.desk, taken)
    authority.book.revoke("b")
    assert refused(authority, other, taken)
    assert refused(authority, service, revoked)
    expired = authority.ticket(suite=Suite.PQ)
    clock.turn(86_400)

    assert refused(authority, service, expired)


def test_a_v1_ticket_stays_v1(authority: Desk, service: Service) -> None:
    """Whatever keys come with it: the ticket says the form."""
    envelope = service.enrol(authority.desk, authority.ticket())

    assert Suite.V1 is service.open(envelope).suite
    assert [Suite.V1] == [row.suite for row in authority.book.deliveries()]


def test_an_authority_without_the_pair_says_so(
    store: Store, service: Service, clock: TurnedClock
) -> None:
    """And what its operator is to do; the ticket stays good."""
    ticket = Desk(store, clock).ticket(suite=Suite.PQ)

    with pytest.raises(SuiteRefused, match="--add-pq"):
        service.enrol(Desk(store, clock, pq_signer=None).desk, ticket)

    assert service.open_pq(service.enrol(Desk(store, clock).desk, ticket))


def test_no_ticket_is_for_the_classic_form(authority: Desk) -> None:
    """Nobody would have signed what it brings."""
    with pytest.raises(ParametersRefused, match="v1 or pq"):
        authority.ticket(suite=Suite.CLASSIC)


def test_a_sequence_rises_in_its_account(
    authority: Desk, service: Service, other: Service, clock: TurnedClock
) -> None:
    """With each envelope, whoever asks, even if the clock is set back."""
    sequences = []
    for who, step in ((service, 0), (service, 0), (other, 1), (service, -5000)):
        clock.turn(step)
        ticket = authority.ticket(subscriber=f"shop-{who.keys.kid[:5].lower()}x")
        claims = who.open(enrolled(authority, who, ticket).envelope).claims
        sequences.append(claims.sequence)

    assert sorted(set(sequences)) == sequences


def test_no_two_seeds_are_alike(authority: Desk, service: Service) -> None:
    """Each ticket brings a seed, a nonce and a jti of its own."""
    claims = [
        service.open(enrolled(authority, service, authority.ticket()).envelope).claims
        for _ in range(3)
    ]

    for values in (
        {claim.seed.reveal() for claim in claims},
        {claim.nonce for claim in claims},
        {claim.jti for claim in claims},
    ):
        assert 3 == len(values)


def test_a_certificate_goes_with_it(
    store: Store, service: Service, clock: TurnedClock
) -> None:
    """For the key and the subscriber; the repeated answer has the same."""
    authority = Desk(store, clock)
    made: list[tuple[str, float]] = []

    def certify(key: rsa.RSAPublicKey, subscriber: str, now: float) -> str:
        assert service.keys.public_key == key
        made.append((subscriber, now))
        return f"certificate {len(made)}"

    authority.desk = EnrolmentDesk(
        store,
        STORAGE_KEY,
        clock,
        identity=lambda: Identity(NAME, Signer(authority.signing_key), certify),
        read_request=authority.desk._read,
    )
    ticket = authority.ticket()

    answers = [enrolled(authority, service, ticket) for _ in range(2)]

    assert ["certificate 1"] * 2 == [answer.certificate for answer in answers]
    assert [("shop", clock.now)] == made


# Races for one ticket.


def race(jobs: list[Any]) -> list[object]:
    """Run all jobs at once, from a barrier; gives their results or errors."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Any) -> object:  # noqa: ANN401
        barrier.wait(30)
        try:
            return job()
        except OtpsealError as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_one_ticket_is_for_one_of_many_keys(
    authority: Desk, many_keys: list[RsaKeys]
) -> None:
    """Eight services with one ticket, at once: one envelope, seven refusals."""
    for _ in range(3):
        ticket = authority.ticket()
        before = len(authority.book.deliveries())
        requests = [Service(keys).request(ticket) for keys in many_keys]

        found = race([lambda csr=csr: authority.desk.enrol(csr) for csr in requests])

        answers = [answer for answer in found if isinstance(answer, Enrolled)]
        refusals = [answer for answer in found if isinstance(answer, EnrolmentRefused)]
        assert (1, RACERS - 1) == (len(answers), len(refusals))
        assert before + 1 == len(authority.book.deliveries())


def test_one_key_that_races_itself_has_one_answer(
    authority: Desk, service: Service
) -> None:
    """Eight requests of one service at once: one envelope, eight times the same."""
    csr = service.request(authority.ticket())

    found = race([lambda: authority.desk.enrol(csr)] * RACERS)

    assert [found[0]] * RACERS == found
    assert isinstance(found[0], Enrolled)
    assert 1 == len(authority.book.deliveries())


def test_tickets_of_one_account_race_to_distinct_sequences(
    authority: Desk, many_keys: list[RsaKeys]
) -> None:
    """Eight tickets for one account at once: eight sequences, all distinct."""
    services = [Service(keys) for keys in many_keys]
    requests = [service.request(authority.ticket()) for service in services]

    race([lambda csr=csr: authority.desk.enrol(csr) for csr in requests])

    sequences = [row.sequence for row in authority.book.deliveries()]
    assert RACERS == len(set(sequences))


def test_a_failure_consumes_nothing(
    authority: Desk, service: Service, store: Store
) -> None:
    """If the envelope cannot be made, the ticket is as good as before."""
    ticket = authority.ticket()

    class Broken(Exception):  # noqa: N818
        pass

    def certify(*_: object) -> str:
        raise Broken

    broken = EnrolmentDesk(
        store,
        STORAGE_KEY,
        authority.clock,
        identity=lambda: Identity(NAME, Signer(authority.signing_key), certify),
        read_request=authority.desk._read,
    )
    with pytest.raises(Broken):
        broken.enrol(service.request(ticket))

    assert [] == authority.book.deliveries()
    assert isinstance(enrolled(authority, service, ticket), Enrolled)


# Receipts.


@pytest.fixture
def envelope(authority: Desk, service: Service) -> str:
    """An envelope that was sent to the service."""
    return enrolled(authority, service, authority.ticket()).envelope


def not_taken(authority: Desk, text: str) -> bool:
    """Tell whether a receipt is refused, with the one text of all refusals."""
    with pytest.raises(ReceiptRefused) as caught:
        authority.desk.confirm(text)
    (row,) = authority.book.deliveries()
    return (row.confirmed_at, str(caught.value)) == (None, str(ReceiptRefused()))


def test_a_receipt_confirms_an_envelope(
    authority: Desk, service: Service, envelope: str, clock: TurnedClock
) -> None:
    """The authority learns that the seed arrived, and which event says so."""
    before = authority.book.deliveries()
    clock.turn(3)

    authority.desk.confirm(service.receipt(envelope, event=41))

    (row,) = authority.book.deliveries()
    assert [replace(row, confirmed_at=None, event=None)] == before
    assert ("shop", "shop/anna", clock.now, 41) == (
        row.subscriber,
        row.account,
        row.confirmed_at,
        row.event,
    )
    detail = {"subscriber": "shop", "jti": row.jti, "event": 41}
    assert ("authority.receipt-stored", "shop/anna", detail) == authority.events()[-1]


def test_a_damaged_receipt_is_no_confirmation(
    authority: Desk, envelope: str, store: Store
) -> None:
    """Who lists what arrived is told of the damage, not that a receipt was refused."""
    with store.transaction() as tx:
        (row,) = tx.issued_envelopes()
        tx.put_issued_envelope(replace(row, receipt="a.b.c", confirmed_at=1.0))

    with pytest.raises(StoreUnavailable, match="issued_envelopes"):
        authority.book.deliveries()


def test_a_receipt_is_taken_again(
    authority: Desk, service: Service, envelope: str, clock: TurnedClock
) -> None:
    """A service that lost the answer asks again; the first receipt stays."""
    authority.desk.confirm(service.receipt(envelope, event=41))
    confirmed = authority.book.deliveries()
    clock.turn(3)

    authority.desk.confirm(service.receipt(envelope, event=41))
    authority.desk.confirm(service.receipt(envelope, event=42))

    assert confirmed == authority.book.deliveries()
    assert 1 == authority.kinds().count("authority.receipt-stored")


def test_receipts_race_to_one_event(
    authority: Desk, service: Service, envelope: str
) -> None:
    """Eight at once: all are taken, one is stored."""
    texts = [service.receipt(envelope, event=event) for event in range(RACERS)]

    found = race([lambda text=text: authority.desk.confirm(text) for text in texts])

    assert not [answer for answer in found if isinstance(answer, OtpsealError)]
    assert 1 == authority.kinds().count("authority.receipt-stored")


def test_a_forged_receipt_is_refused(
    authority: Desk, service: Service, envelope: str
) -> None:
    """By another key; without the seed; for another account; of noise."""
    stranger = Ed25519PrivateKey.generate()
    kid = thumbprint(stranger.public_key())
    header, payload = parts(service.receipt(envelope))
    own = service.receipt_key

    assert not_taken(authority, service.receipt(envelope, key=stranger))
    assert not_taken(
        authority, service.receipt(envelope, key=stranger, signing_kid=kid)
    )
    assert not_taken(
        authority, signed(header, {**payload, "mac": payload["envelope"]}, key=own)
    )
    assert not_taken(
        authority, signed(header, {**payload, "account": "shop/bert"}, key=own)
    )
    assert not_taken(authority, "noise")
    assert "authority.receipt-refused" in authority.kinds()
    authority.desk.confirm(signed(header, payload, key=own))


def test_a_receipt_for_another_envelope_is_refused(
    authority: Desk, service: Service, envelope: str
) -> None:
    """Its MAC is over the envelope that it came in, seed and nonce."""
    header, payload = parts(service.receipt(envelope))
    unknown = {**payload, "envelope": payload["mac"]}

    assert not_taken(authority, signed(header, unknown, key=service.receipt_key))


def test_a_receipt_needs_a_named_key(authority: Desk, service: Service) -> None:
    """Who named no receipt key when it enrolled confirms nothing."""
    answer = authority.desk.enrol(service.request(authority.ticket()))

    assert not_taken(authority, service.receipt(answer.envelope))


def test_who_repeats_an_enrolment_changes_no_receipt_key(
    authority: Desk, service: Service
) -> None:
    """The key of the first request stays, even if the service itself names another."""
    ticket = authority.ticket()
    first = enrolled(authority, service, ticket)
    thief = Service(service.keys)

    assert first == enrolled(authority, thief, ticket)

    assert not_taken(authority, thief.receipt(first.envelope))
    authority.desk.confirm(service.receipt(first.envelope))


def test_a_revoked_subscribers_receipt_is_refused(
    authority: Desk, service: Service, envelope: str
) -> None:
    """It is no subscriber any more."""
    authority.book.revoke("shop")

    assert not_taken(authority, service.receipt(envelope))


# At rest.


def test_seeds_rest_sealed_in_their_place(
    tmp_path: Path, service: Service, other: Service, clock: TurnedClock
) -> None:
    """No seed is in the file, and a seed that is moved to another row opens nothing."""
    store = STORES["sqlite"](tmp_path)
    authority = Desk(store, clock)
    one = enrolled(authority, service, authority.ticket()).envelope
    two = enrolled(authority, other, authority.ticket()).envelope
    seed = service.open(one).claims.seed.reveal()

    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert seed not in files
    assert seed.hex().encode() not in files

    with closing(sqlite3.connect(tmp_path / "otpseal.db")) as database, database:
        query = "SELECT jti, sealed_seed FROM issued_envelopes"
        (first, of_first), (second, of_second) = database.execute(query).fetchall()
        swapped = [(of_second, first), (of_first, second)]
        update = "UPDATE issued_envelopes SET sealed_seed = ? WHERE jti = ?"
        database.executemany(update, swapped)
    for text in (service.receipt(one), other.receipt(two)):
        with pytest.raises(SeedUnreadable):
            authority.desk.confirm(text)
    store.close()


def test_nothing_secret_is_shown(
    authority: Desk, service: Service, envelope: str
) -> None:
    """Neither signing key nor seed is in any repr."""
    with authority.store.transaction() as tx:
        (row,) = tx.issued_envelopes()
    identity = Identity(NAME, Signer(authority.signing_key))

    assert row.sealed_seed.hex() not in repr(row)
    assert repr(row.sealed_seed) not in repr(row)
    assert "signer" not in repr(identity)
    assert isinstance(envelope, str)
    assert service.keys.kid in repr(row)
