"""Subscribers' calls over HTTP, on a real server."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authority_fixtures import Answer, ask, authority_over, pem_of, served
from conftest import TurnedClock
from enrolment_fixtures import NAME, SIGNING_KEY, STORAGE_KEY, Desk, Service
from receipt_sample import base64url

from otpseal import enrolment_request, subscription
from otpseal.adapters.file_keys import RsaKeys
from otpseal.enrolment import EnrolmentDesk, Identity
from otpseal.http.authority import create_authority_app
from otpseal.public_jwk import parse, thumbprint
from otpseal.signed_envelope import Signer
from otpseal.validity import Validity
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
            desk=lambda: desk.desk,
            jwks=lambda: jwks([SIGNING_KEY.public_key()]),
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
            identity=identity,
            read_request=enrolment_request.read,
        )
        csr = standard(service.request(desk.ticket()))
        none = standard(service.request(subscription.new_ticket(bytes(32))))
        app = create_authority_app(authority, desk=lambda: over)
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
