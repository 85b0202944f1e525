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
from enrolment_fixtures import SIGNING_KEY, Desk, Service
from memory_store import MemoryStore
from receipt_sample import base64url

from otpseal.adapters.file_keys import RsaKeys
from otpseal.http.authority import create_authority_app
from otpseal.ports import Store
from otpseal.public_jwk import parse, thumbprint
from otpseal.wiring_authority import jwks

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
            jwks=jwks([SIGNING_KEY.public_key()]),
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
    csr = service.request(site.desk.ticket())
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
    """As a JWK Set, which a service can pin as it is."""
    answer = ask(site.port, "GET", "/.well-known/jwks.json")

    (jwk,) = answer.json["keys"]
    key = SIGNING_KEY.public_key()
    assert key == parse(jwk)
    assert (thumbprint(key), "sig", "Ed25519") == (jwk["kid"], jwk["use"], jwk["alg"])


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
