"""Envelopes and their receipts over real connections."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from repetitions import rounds
from server_fixture import JSON_TYPE, Reply, call, sealed_to
from trust_fixture import Headquarters, encoded
from v1_fixture import V1, caller, served_v1

from otpseal.access import Scope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.signed_envelope import Signer
from otpseal.suite import Suite
from otpseal.trust_book import TrustBook


@pytest.fixture
def v1(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[V1]:
    """A served store, and a caller who may do everything."""
    with served_v1(tmp_path, service_keys, clock) as served:
        yield served


@pytest.fixture
def hq(v1: V1, service_keys: RsaKeys) -> Headquarters:
    """An authority that the service has pinned for `shop/`."""
    made = Headquarters(service_keys)
    service = v1.here.service
    book = TrustBook(service.store, service.storage_key, service.clock)
    book.add("hq", made.public_jwks(), prefix="shop/")
    return made


def accounts(v1: V1) -> list[str]:
    """Return the ids of all accounts."""
    listed: Any = v1.get("/v1/accounts").json
    return [account["id"] for account in listed["accounts"]]


def test_a_seed_whose_sender_is_known(v1: V1, hq: Headquarters) -> None:
    """The account, who sealed its seed, and a receipt; its codes are checked."""
    reply = v1.post("/v1/envelopes", {"envelope": hq.seal()})

    assert 200 == reply.status, reply
    assert ("hq", "v1", True) == (
        reply.json["authority"],
        reply.json["suite"],
        reply.json["new"],
    )
    assert "shop/alice" == reply.json["account"]["id"]
    assert 2 == reply.json["receipt"].count(".")
    code = v1.get("/v1/accounts/shop/alice:code").json["code"]
    assert v1.verify("shop/alice", code)["valid"]


def test_whatever_fails_before_the_signature_looks_alike(
    v1: V1, hq: Headquarters
) -> None:
    """Byte for byte: garbage, another's signature, a changed part, a classic seed."""
    good = hq.seal()
    parts = good.split(".")
    own = Signer(Ed25519PrivateKey.generate())
    stranger = Headquarters(hq.keys, signer=own).seal()
    failing = {
        "garbage": "x",
        "a stranger": stranger,
        "another key": ".".join([parts[0], "A" * len(parts[1]), *parts[2:]]),
        "another tag": ".".join([*parts[:4], "A" * len(parts[4])]),
        "classic": sealed_to(hq.keys),
        "too long": "A" * 32_800,
    }
    replies = {
        name: v1.post("/v1/envelopes", {"envelope": text})
        for name, text in failing.items()
    }

    first = replies["garbage"]
    assert (422, "envelope_refused") == (first.status, first.json["code"])
    for name, reply in replies.items():
        assert (first.status, first.body) == (reply.status, reply.body), name
    assert [] == accounts(v1)
    assert v1.post("/v1/envelopes", {"envelope": good}).status == 200


def test_what_an_authority_did_wrong_is_said(v1: V1, hq: Headquarters) -> None:
    """A replay, an older one and another tenant's account have codes of their own."""
    older, newer = hq.seal(), hq.seal()
    beyond = hq.seal(hq.claims(account="bank/alice"))
    assert v1.post("/v1/envelopes", {"envelope": newer}).status == 200

    told = {
        name: (reply.status, reply.json["code"])
        for name, text in [("again", newer), ("older", older), ("beyond", beyond)]
        for reply in [v1.post("/v1/envelopes", {"envelope": text})]
    }

    assert {
        "again": (409, "envelope_replayed"),
        "older": (409, "envelope_stale"),
        "beyond": (422, "envelope_misdirected"),
    } == told


def test_who_may_bring_one(
    v1: V1, hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not without a token, nor with one of another scope; nothing is decrypted."""
    text = hq.seal()
    body = json.dumps({"envelope": text}).encode()
    decrypted: list[int] = []
    decrypt = v1.here.service.keys.oaep_decrypt

    def counting(ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        decrypted.append(1)
        return decrypt(ciphertext, label=label)

    monkeypatch.setattr(v1.here.service.keys, "oaep_decrypt", counting)
    assert 401 == call(v1.here.port, "POST", "/v1/envelopes", body, JSON_TYPE).status
    lesser = caller(v1.here, frozenset({Scope.VERIFY, Scope.ACCOUNTS}))
    assert 403 == lesser.post("/v1/envelopes", {"envelope": text}).status
    assert [] == decrypted

    bringer = caller(v1.here, frozenset({Scope.IMPORT}), prefix="shop/")
    assert 200 == bringer.post("/v1/envelopes", {"envelope": text}).status
    assert [1] == decrypted


def test_seeds_of_ones_own_are_never_stored(v1: V1, hq: Headquarters) -> None:
    """With a token and without: whoever has the public key alone stores nothing."""
    service = v1.here.service
    for number in rounds(20, full=1000):
        own = Headquarters(hq.keys, signer=Signer(Ed25519PrivateKey.generate()))
        text = own.seal(own.claims(account=f"shop/a{number}"))
        body = json.dumps({"envelope": text}).encode()

        assert v1.post("/v1/envelopes", {"envelope": text}).status == 422
        reply = call(v1.here.port, "POST", "/v1/envelopes", body, JSON_TYPE)
        assert 401 == reply.status
    with service.store.transaction() as tx:
        assert [] == tx.account_ids()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({}, 422),
        ({"envelope": 1}, 422),
        ({"envelope": "x", "more": 1}, 422),
        ({"envelope": base64.b64encode(os.urandom(30_000)).decode()}, 413),
    ],
)
def test_malformed_bodies(
    v1: V1, hq: Headquarters, content: dict[str, Any], status: int
) -> None:
    """Missing, of another type, with more, too large."""
    assert status == v1.post("/v1/envelopes", content).status


def test_a_lost_answer_is_fetched(v1: V1, hq: Headquarters) -> None:
    """By SHA-256 of the envelope; the receipt is byte for byte that of the import."""
    text = hq.seal()
    path = f"/v1/receipts/{encoded(hashlib.sha256(text.encode()).digest())}"
    assert (404, "receipt_missing") == told(v1.get(path))
    brought = v1.post("/v1/envelopes", {"envelope": text})
    bringer = caller(v1.here, frozenset({Scope.IMPORT}), prefix="shop/")

    fetched = bringer.get(path)

    assert 200 == fetched.status, fetched
    assert {
        "account": "shop/alice",
        "authority": "hq",
        "receipt": brought.json["receipt"],
        "has_seed": True,
    } == fetched.json
    v1.post("/v1/envelopes", {"envelope": hq.seal()})
    assert {**fetched.json, "has_seed": False} == bringer.get(path).json


def test_another_tenants_receipt_is_none(v1: V1, hq: Headquarters) -> None:
    """Byte for byte as one that never was, and as a text that is no digest."""
    text = hq.seal()
    v1.post("/v1/envelopes", {"envelope": text})
    known = encoded(hashlib.sha256(text.encode()).digest())
    other = caller(v1.here, frozenset({Scope.IMPORT}), prefix="shop2/")

    replies = {
        digest: other.get(f"/v1/receipts/{digest}")
        for digest in (
            known,
            encoded(bytes(32)),
            "",
            "x",
            known + "=",
            known[:-1],
            "a/b",
        )
    }

    for digest, reply in replies.items():
        assert (404, "receipt_missing") == told(reply), digest
    assert 1 == len({reply.body for reply in replies.values()})


def told(reply: Reply) -> tuple[int, str]:
    """Return a refusal's status and code."""
    return reply.status, reply.json["code"]


def test_a_suite_that_is_off(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Refused at each door as before, and each refusal is in the audit log."""
    with served_v1(tmp_path, service_keys, clock, suites=[Suite.PQ]) as v1:
        sealed = sealed_to(service_keys)
        classic = json.dumps({"encrypted_seed": sealed}).encode()
        replies = [
            v1.post("/v1/envelopes", {"envelope": Headquarters(service_keys).seal()}),
            v1.post("/v1/accounts", {"id": "shop/a", "sealed_seed": sealed}),
            call(v1.here.port, "POST", "/decrypt-seed", classic, JSON_TYPE),
        ]
        clock.turn(120)
        v1.here.service.upkeep.settle()
        events = v1.get("/v1/events?kind=suite.refused").json["events"]

    assert [403, 403, 403] == [reply.status for reply in replies]
    assert ["suite_refused"] * 2 == [reply.json["code"] for reply in replies[:2]]
    assert 3 == sum(event["detail"]["count"] for event in events)


def test_a_forged_pin_is_audited(
    v1: V1, hq: Headquarters, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """To callers the store is out of order; the audit log says what is wrong."""
    with v1.here.service.store.transaction() as tx:
        (row,) = tx.pinned_authorities()
        tx.pin_authority(replace(row, prefix=""))

    replies = [v1.post("/v1/envelopes", {"envelope": hq.seal()}) for _ in range(3)]

    assert {(503, "store_unavailable")} == set(map(told, replies))
    clock.turn(120)
    v1.here.service.upkeep.settle()
    events = v1.get("/v1/events?kind=authority.pin-forged").json["events"]
    assert 3 == sum(event["detail"]["count"] for event in events)
    assert [] == accounts(v1)
