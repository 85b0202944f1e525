"""Subscribers' calls over HTTP, on a real server."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from authority_fixtures import Answer, ask, authority_over, pem_of, served
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from enrolment_fixtures import (
    NAME,
    PQ_SIGNER,
    SIGNING_KEY,
    STORAGE_KEY,
    Desk,
    Service,
)
from memory_store import MemoryStore
from receipt_sample import base64url

from otpseal import enrolment_request, subscription
from otpseal.adapters.file_keys import RsaKeys
from otpseal.enrolment import EnrolmentDesk, Identity
from otpseal.http.authority import create_authority_app
from otpseal.ports import Store
from otpseal.public_jwk import parse, thumbprint
from otpseal.signed_envelope import Signer
from otpseal.suite import Suite
from otpseal.trust import pin
from otpseal.validity import Validity
from otpseal.wiring_authority import jwks
from otpseal.wiring_pq import pq_public_keys

REFUSED = {
    "status": "error",
    "error": "The authority does not answer this request: ask its operator for a new"
    " ticket",
}


class Site:
    """An authority that is served."""

    def __init__(self, port: int, desk: Desk) -> None:
        self.port = port
        self.desk = desk

    def post(self, path: str, **body: Any) -> Answer:  # noqa: ANN401 - JSON
        """Post a body."""
        return ask(self.port, "POST", path, json.dumps(body))


@pytest.fixture
def site(tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock) -> Iterator[Site]:
    """An authority that answers subscribers, and no classic requests."""
    with authority_over(tmp_path, other_keys, clock) as authority:
        desk = Desk(authority.store, clock)
        app = create_authority_app(
            authority,
            desk=desk.desk,
            jwks=lambda: jwks([SIGNING_KEY.public_key(), *pq_public_keys(PQ_SIGNER)]),
            classic=False,
        )
        with served(app) as port:
            yield Site(port, desk)


@pytest.fixture
def service(service_keys: RsaKeys) -> Service:
    """A service."""
    return Service(service_keys)


def standard(raw: bytes) -> str:
    """Encode as base64."""
    return base64.b64encode(raw).decode()


def test_from_a_ticket_to_a_receipt(site: Site, service: Service) -> None:
    """Enrol, open, confirm: after that the authority knows that the seed arrived."""
    csr = service.request(site.desk.ticket(), service.receipt_kid)
    key = base64url(service.receipt_public)

    answer = site.post("/v1/enrol", request=standard(csr), receipt_key=key)
    envelope = answer.json["envelope"]
    confirmed = site.post("/v1/receipts", receipt=service.receipt(envelope, event=9))

    assert (200, {"status": "success", "envelope": envelope}) == (
        answer.status,
        answer.json,
    )
    assert (200, {"status": "success"}) == (confirmed.status, confirmed.json)
    assert [9] == [row.event for row in site.desk.book.deliveries()]
    assert "no-store" == answer.headers["cache-control"]


def test_refused_tickets_look_alike(
    site: Site, service: Service, other_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Unknown, taken, revoked, expired, no request at all: one answer, to the byte."""
    taken, expired = site.desk.ticket(), site.desk.ticket()
    revoked = site.desk.ticket(subscriber="gone")
    site.desk.desk.enrol(Service(other_keys).request(taken))
    site.desk.book.revoke("gone")
    answers = [site.post("/v1/enrol", request=standard(b"noise"))]
    for ticket in (taken, revoked):
        csr = standard(service.request(ticket))
        answers.append(site.post("/v1/enrol", request=csr))
    clock.turn(86_400)
    csr = standard(service.request(expired))
    answers.append(site.post("/v1/enrol", request=csr))

    assert [(403, REFUSED)] * 4 == [(found.status, found.json) for found in answers]
    assert 1 == len({found.body for found in answers})


def post_all(site: Site, service: Service, csr: bytes, **changes: bytes) -> Answer:
    """Post a request with both keys beside it, or others in their place."""
    keys = {
        "receipt_key": service.receipt_public,
        "pq_key": service.pq_key.public_key.raw,
    }
    sent = {name: base64url(raw) for name, raw in (keys | changes).items()}
    return site.post("/v1/enrol", request=standard(csr), **sent)


def test_a_pq_ticket_brings_a_pq_envelope(site: Site, service: Service) -> None:
    """Enrol, open, confirm, in the suite pq."""
    ticket = site.desk.ticket(suite=Suite.PQ)
    csr = service.request(ticket, service.receipt_kid, service.pq_key.kid)

    answer = post_all(site, service, csr)
    envelope = answer.json["envelope"]
    confirmed = site.post("/v1/receipts", receipt=service.receipt(envelope, event=9))

    assert (200, 200) == (answer.status, confirmed.status)
    assert service.pq_key.kid == service.open_pq(envelope).claims.audience
    assert [9] == [row.event for row in site.desk.book.deliveries()]


def test_keys_swapped_on_the_way_are_refused(site: Site, service: Service) -> None:
    """Of receipts and of pq, to the byte as any refusal; then the good ones work."""
    ticket = site.desk.ticket(suite=Suite.PQ)
    csr = service.request(ticket, service.receipt_kid, service.pq_key.kid)
    thief = Service(service.keys)
    pq = thief.pq_key.public_key.raw
    small = service.pq_key.public_key.raw[:-32] + bytes(32)

    answers = [
        post_all(site, service, csr, receipt_key=thief.receipt_public),
        post_all(site, service, csr, pq_key=pq),
        post_all(site, service, csr, pq_key=small),
        post_all(site, service, service.request(ticket)),
        site.post("/v1/enrol", request=standard(csr)),
    ]

    assert [(403, REFUSED)] * 5 == [(found.status, found.json) for found in answers]
    assert 200 == post_all(site, service, csr).status


def test_a_service_without_a_pq_key_is_told(site: Site, service: Service) -> None:
    """Its ticket is good, and stays so: what has to change is a setting of its own."""
    ticket = site.desk.ticket(suite=Suite.PQ)
    csr = service.request(ticket, service.receipt_kid)
    key = base64url(service.receipt_public)

    answer = site.post("/v1/enrol", request=standard(csr), receipt_key=key)

    assert 403 == answer.status
    assert "OTPSEAL_ACCEPT_SUITES has to name pq" in answer.json["error"]
    assert service.open_pq(service.enrol(site.desk.desk, ticket))


def test_the_largest_request_fits(site: Site, service: Service) -> None:
    """RSA-8192 with all keys beside it is read, and fails by its signature alone."""

    class Large:
        kid = ""
        public_key = RSAPublicNumbers(65537, (1 << 8191) + 12345).public_key()

        def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
            return bytes(1024) if message and salt_length else b""

        def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None) -> bytes:
            raise AssertionError(ciphertext, label)

    kids = (service.receipt_kid, service.pq_key.kid)
    csr = enrolment_request.make(Large(), "x" * 64, kids)

    answer = post_all(site, service, csr)

    assert (403, REFUSED) == (answer.status, answer.json)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"request": 5},
        {"request": "*"},
        {"request": "\u00fc"},
        {"request": "AAAA", "receipt_key": None},
        {"request": "AAAA", "receipt_key": "A" * 42},
        {"request": "AAAA", "receipt_key": "A" * 44},
        {"request": "AAAA", "receipt_key": "+" * 43},
        {"request": "AAAA", "pq_key": None},
        {"request": "AAAA", "pq_key": "A" * 43},
        {"request": "AAAA", "pq_key": "A" * 1623},
    ],
)
def test_a_malformed_enrolment_is_a_400(site: Site, body: dict[str, object]) -> None:
    """With a static text, before anything is looked up."""
    answer = site.post("/v1/enrol", **body)

    assert (400, "error") == (answer.status, answer.json["status"])
    assert [] == site.desk.kinds()


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"receipt": 5}, 400), ({"receipt": "a.b.c"}, 403)],
)
def test_a_receipt_that_is_none_is_refused(
    site: Site, body: dict[str, object], status: int
) -> None:
    """With a static text."""
    answer = site.post("/v1/receipts", **body)

    assert (status, "error") == (answer.status, answer.json["status"])


def test_a_body_is_bounded(site: Site) -> None:
    """8 KiB, as for every call."""
    assert 400 == site.post("/v1/enrol", request="A" * 9000).status


def test_the_keys_are_published(site: Site) -> None:
    """As a JWK Set that a service can pin as it is: v1's key, and both of pq."""
    answer = ask(site.port, "GET", "/.well-known/jwks.json")

    jwks = answer.json["keys"]
    keys = [SIGNING_KEY.public_key(), *pq_public_keys(PQ_SIGNER)]
    assert keys == [parse(jwk) for jwk in jwks]
    kinds = [("OKP", "Ed25519"), ("OKP", "Ed25519"), ("AKP", "ML-DSA-65")]
    assert kinds == [(jwk["kty"], jwk["alg"]) for jwk in jwks]
    assert [(thumbprint(key), "sig") for key in keys] == [
        (jwk["kid"], jwk["use"]) for jwk in jwks
    ]
    assert set(map(thumbprint, keys)) == set(pin("hq", "", answer.body, now=0.0).keys)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/v1/enrol", "POST"),
        ("/.well-known/jwks.json", "GET, HEAD"),
    ],
)
def test_other_methods_are_405(site: Site, path: str, allowed: str) -> None:
    """The classic request among them, where it is switched off."""
    method = "GET" if allowed == "POST" else "POST"

    answer = ask(site.port, method, path)

    assert (405, allowed) == (answer.status, answer.headers["allow"])


def test_without_keys_there_are_no_subscribers(
    tmp_path: Path, other_keys: RsaKeys, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """An authority that was not initialised answers classic requests alone."""
    with (
        authority_over(tmp_path, other_keys, clock) as authority,
        served(create_authority_app(authority)) as port,
    ):
        for path in ("/v1/enrol", "/v1/receipts", "/.well-known/jwks.json"):
            assert 404 == ask(port, "GET", path).status
        body = {
            "student_id": "a",
            "github_repo_url": "b",
            "public_key": pem_of(service_keys).decode(),
        }
        assert 200 == ask(port, "POST", "/", json.dumps(body)).status


def test_a_certificate_that_ended_is_503_and_in_the_log(
    tmp_path: Path,
    other_keys: RsaKeys,
    service: Service,
    clock: TurnedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The service learns whom to tell, the operator what to run; once a minute.

    Tickets that are none are refused as ever.
    """
    with authority_over(tmp_path, other_keys, clock) as authority:
        desk = Desk(authority.store, clock)
        ended = Validity(0.0, clock.now - 1)
        identity = Identity(NAME, Signer(SIGNING_KEY), valid=ended)
        over = EnrolmentDesk(
            authority.store,
            STORAGE_KEY,
            clock,
            identity=lambda: identity,
            read_request=enrolment_request.read,
        )
        csr = standard(service.request(desk.ticket()))
        none = standard(service.request(subscription.new_ticket(bytes(32))))
        app = create_authority_app(authority, desk=over)
        with served(app) as port:
            site = Site(port, desk)
            answers = [site.post("/v1/enrol", request=csr) for _ in range(3)]
            refused = site.post("/v1/enrol", request=none)

    told = "The authority's signing certificate has expired: tell its operator"
    assert [(503, told)] * 3 == [
        (answer.status, answer.json["error"]) for answer in answers
    ]
    assert (403, REFUSED) == (refused.status, refused.json)
    said = [text for text in caplog.messages if "signing certificate" in text]
    assert 1 == len(said)
    assert "otpseal authority renew" in said[0]


class CountingStore:
    """A real store that counts its exclusive transactions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.exclusive = 0

    @contextmanager
    def transaction(self, *, shared: bool = False, **more: Any) -> Iterator[Any]:  # noqa: ANN401
        """See `otpseal.ports.Store`."""
        self.exclusive += not shared
        with self._store.transaction(shared=shared, **more) as tx:
            yield tx

    def close(self) -> None:
        """See `otpseal.ports.Store`."""


def test_a_flood_of_junk_keeps_nobody_from_the_lock(
    tmp_path: Path, service: Service, other_keys: RsaKeys, clock: TurnedClock
) -> None:
    """However much of it: no more exclusive transactions, and a 200 for who is honest.

    All of it is in the audit log when the authority has stopped.
    """
    with authority_over(tmp_path, other_keys, clock) as authority:
        store = CountingStore(authority.store)
        desk = Desk(store, clock)
        elsewhere = Desk(MemoryStore(), clock)
        foreign = elsewhere.ticket()
        unknown = standard(service.request(foreign))
        envelope = elsewhere.desk.enrol(service.request(foreign)).envelope
        junk: list[tuple[str, dict[str, str]]] = [
            ("/v1/enrol", {"request": standard(b"noise")}),
            ("/v1/enrol", {"request": unknown}),
            ("/v1/receipts", {"receipt": "a.b.c"}),
            ("/v1/receipts", {"receipt": service.receipt(envelope)}),
        ]
        honest = [standard(service.request(desk.ticket())) for _ in range(2)]
        app = create_authority_app(authority, desk=desk.desk, classic=False)
        with served(app) as port, ThreadPoolExecutor(8) as flood:
            site = Site(port, desk)

            def throw(number: int) -> int:
                path, body = junk[number % len(junk)]
                return site.post(path, **body).status

            taken = []
            for size, csr in zip((40, 200), honest, strict=True):
                before = store.exclusive
                thrown = [flood.submit(throw, number) for number in range(size)]
                answer = site.post("/v1/enrol", request=csr)
                assert 200 == answer.status
                assert {403} == {each.result() for each in thrown}
                taken.append(store.exclusive - before)
        kinds = ("authority.enrolment-refused", "authority.receipt-refused")
        counted = {
            kind: sum(row[2]["count"] for row in desk.events() if row[0] == kind)
            for kind in kinds
        }
        with store.transaction() as tx:
            pending = {tally.kind.value: tally.pending for tally in tx.tallies()}

    # Of the first flood the first of each kind is written at once.
    assert [1 + len(kinds), 1] == taken
    assert dict.fromkeys(kinds, 120) == {
        kind: counted[kind] + pending[kind] for kind in kinds
    }
