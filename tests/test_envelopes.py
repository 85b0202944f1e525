"""Envelopes become accounts: only a pinned authority's, here, now and once."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from server_fixture import sealed_to
from trust_fixture import Headquarters, encoded

from otpseal import base64url, pq_envelope, public_jwk, receipt
from otpseal.access import Scope
from otpseal.account_state import Status
from otpseal.accounts import NewAccount
from otpseal.adapters.file_keys import RsaKeys
from otpseal.envelope_acceptance import MAX_LIFETIME_S, Brought
from otpseal.envelopes import Recalled, envelope_digest
from otpseal.errors import (
    AccountExists,
    ClaimsRefused,
    EnvelopeExpired,
    EnvelopeMisdirected,
    EnvelopeRefused,
    EnvelopeReplayed,
    EnvelopeStale,
    Forbidden,
    OtpsealError,
    PinForged,
    ReceiptMissing,
    SeedConflict,
    StoreUnavailable,
    SuiteRefused,
    Unauthenticated,
)
from otpseal.ports import Store
from otpseal.pq_keys import ImportPublicKey, PqSigner
from otpseal.secret import Secret
from otpseal.seed_claims import SeedClaims
from otpseal.service import Service
from otpseal.signed_envelope import Signer
from otpseal.signers import OpenedEnvelope, PinnedKeys
from otpseal.storage_key import StorageKey
from otpseal.suite import Suite
from otpseal.totp import Parameters
from otpseal.trust_book import TrustBook


@pytest.fixture
def storage_key() -> StorageKey:
    """A new storage key."""
    return StorageKey.generate()


@pytest.fixture
def service(
    store: Store, storage_key: StorageKey, service_keys: RsaKeys, clock: TurnedClock
) -> Service:
    """A service over each store in turn."""
    return Service(store, keys=service_keys, storage_key=storage_key, clock=clock)


@pytest.fixture
def book(store: Store, storage_key: StorageKey, clock: TurnedClock) -> TrustBook:
    """The authorities that the service has pinned."""
    return TrustBook(store, storage_key, clock)


@pytest.fixture
def hq(book: TrustBook, service_keys: RsaKeys) -> Headquarters:
    """An authority that is pinned for the accounts of the shop."""
    return pinned(book, Headquarters(service_keys))


def pinned(book: TrustBook, hq: Headquarters, prefix: str = "shop/") -> Headquarters:
    """Pin an authority by its key."""
    book.add(hq.name, hq.public_jwks(), prefix=prefix)
    return hq


def events(service: Service, kind: str = "") -> list[tuple[str, str, dict[str, Any]]]:
    """Return the audit events of a kind, oldest first."""
    with service.store.transaction() as tx:
        rows = tx.newest_events(1000)
    return [
        (row.kind, row.account, json.loads(row.detail))
        for row in rows
        if row.kind.startswith(kind)
    ]


def stored(service: Service) -> list[str]:
    """Return the ids of all accounts."""
    with service.store.transaction() as tx:
        return tx.account_ids()


def test_an_envelope_makes_an_account(service: Service, hq: Headquarters) -> None:
    """With its parameters and names; active, and its codes are right."""
    claims = hq.claims(
        parameters=Parameters("SHA256", 8, 60), service_name="Shop", label="Alice"
    )

    brought = service.envelopes.bring(hq.seal(claims))

    row = service.account("shop/alice")
    assert row == brought.row
    assert brought.is_new
    assert ("hq", "v1") == (brought.authority, brought.suite)
    assert (claims.parameters, "Shop", "Alice") == (
        row.parameters,
        row.issuer,
        row.label,
    )
    assert Status.ACTIVE is row.state.status
    assert claims.seed == row.open_seed(service.storage_key)
    ((_, account, detail),) = events(service, "envelope.")
    assert "shop/alice" == account
    assert {
        "authority": "hq",
        "suite": "v1",
        "kid": hq.keys.kid,
        "seq": claims.sequence,
        "jti": claims.jti,
        "new": 1,
    } == detail


def test_the_receipt_confirms_the_seed(service: Service, hq: Headquarters) -> None:
    """By the service's own key, for this envelope, and with the event's id."""
    claims = hq.claims()
    text = hq.seal(claims)

    brought = service.envelopes.bring(text)

    _, key = service.own_keys.receipt_key()
    sent = receipt.Delivery(
        hq.open(text).digest, claims.account, hq.keys.kid, claims.nonce, claims.seed
    )
    verified = receipt.verify(brought.receipt, key=key.public_key(), sent=sent)
    with service.store.transaction() as tx:
        (newest,) = tx.newest_events(1)
    assert ("envelope.accepted", verified.event) == (newest.kind, newest.id)
    assert verified.issuer in {jwk["kid"] for jwk in service.own_keys.receipt_jwks()}


def test_a_later_envelope_replaces_the_seed(
    service: Service, hq: Headquarters, clock: TurnedClock
) -> None:
    """Of the same authority; the account's state stays, its new parameters count."""
    service.envelopes.bring(hq.seal())
    service.accounts.disable("shop/alice")
    later = hq.claims(parameters=Parameters(digits=8))

    brought = service.envelopes.bring(hq.seal(later))

    row = service.account("shop/alice")
    assert not brought.is_new
    assert row is not None
    assert Status.DISABLED is row.state.status
    assert (later.seed, 8) == (
        row.open_seed(service.storage_key),
        row.parameters.digits,
    )
    assert [1, 0] == [detail["new"] for *_, detail in events(service, "envelope.")]


Spoil = Callable[[Headquarters, TurnedClock], str]


def stranger(hq: Headquarters, _clock: TurnedClock) -> str:
    """Somebody with the public key and a key of his own, under the same name."""
    own = Signer(Ed25519PrivateKey.generate())
    return Headquarters(hq.keys, signer=own, last=99).seal()


def namesake(hq: Headquarters, _clock: TurnedClock) -> str:
    """Another issuer in the claims than the key is pinned for."""
    return hq.seal(hq.claims(issuer="other"))


def for_another_service(hq: Headquarters, _clock: TurnedClock) -> str:
    """The audience is another key's id."""
    return hq.seal(hq.claims(audience=encoded(bytes(32))))


def beyond_the_fence(hq: Headquarters, _clock: TurnedClock) -> str:
    """An account that the authority is not pinned for."""
    return hq.seal(hq.claims(account="bank/alice"))


def beside_the_fence(hq: Headquarters, _clock: TurnedClock) -> str:
    """Its name begins alike, and is another's."""
    return hq.seal(hq.claims(account="shop2/alice"))


def expired(hq: Headquarters, clock: TurnedClock) -> str:
    """Its time is over."""
    text = hq.seal()
    clock.turn(3600)
    return text


def of_the_future(hq: Headquarters, clock: TurnedClock) -> str:
    """Made a day ahead."""
    ahead = int(clock()) + 86_400
    return hq.seal(hq.claims(issued_at=ahead, expires_at=ahead + 60))


def for_too_long(hq: Headquarters, clock: TurnedClock) -> str:
    """Longer than accepted envelopes are remembered."""
    now = int(clock())
    return hq.seal(hq.claims(issued_at=now, expires_at=now + MAX_LIFETIME_S + 1))


@pytest.mark.parametrize(
    ("spoil", "error", "kind"),
    [
        (stranger, EnvelopeRefused, "envelope.refused"),
        (namesake, EnvelopeMisdirected, "envelope.misdirected"),
        (for_another_service, EnvelopeMisdirected, "envelope.misdirected"),
        (beyond_the_fence, EnvelopeMisdirected, "envelope.misdirected"),
        (beside_the_fence, EnvelopeMisdirected, "envelope.misdirected"),
        (expired, EnvelopeExpired, "envelope.expired"),
        (of_the_future, EnvelopeExpired, "envelope.expired"),
        (for_too_long, EnvelopeExpired, "envelope.expired"),
    ],
)
def test_what_is_refused_is_counted(
    service: Service,
    hq: Headquarters,
    clock: TurnedClock,
    *,
    spoil: Spoil,
    error: type[OtpsealError],
    kind: str,
) -> None:
    """Each by its own name in the audit log, and nothing is stored."""
    text = spoil(hq, clock)

    for _ in range(3):
        with pytest.raises(error):
            service.envelopes.bring(text)

    clock.turn(120)
    service.upkeep.settle()
    told = events(service, "envelope.")
    assert {kind} == {event for event, *_ in told}
    assert 3 == sum(detail["count"] for *_, detail in told)
    assert [] == stored(service)


def test_an_envelope_is_accepted_once(service: Service, hq: Headquarters) -> None:
    """Sent again it is a replay, after a later one too, and after a deletion."""
    first, second = hq.seal(), hq.seal()
    service.envelopes.bring(first)
    with pytest.raises(EnvelopeReplayed):
        service.envelopes.bring(first)
    service.envelopes.bring(second)
    with pytest.raises(EnvelopeReplayed):
        service.envelopes.bring(first)

    service.accounts.delete("shop/alice")
    for text in (first, second):
        with pytest.raises(EnvelopeReplayed):
            service.envelopes.bring(text)
    assert [] == stored(service)


def test_the_receipt_stays(
    service: Service, hq: Headquarters, clock: TurnedClock
) -> None:
    """By the envelope's digest, or its account, until the envelope is forgotten."""
    text = hq.seal()
    with pytest.raises(ReceiptMissing):
        service.envelopes.recall(envelope_digest(text))
    brought = service.envelopes.bring(text)

    found = service.envelopes.recall(hq.open(text).digest)

    assert Recalled("shop/alice", "hq", brought.receipt, has_seed=True) == found
    assert found == service.envelopes.recall_newest("shop/alice")
    with pytest.raises(ReceiptMissing):
        service.envelopes.recall_newest("shop/bob")
    clock.turn(3600 + 86_400 + 1)
    service.upkeep.settle()
    with pytest.raises(ReceiptMissing):
        service.envelopes.recall(envelope_digest(text))


def test_only_what_brought_a_seed_has_a_receipt(
    service: Service, hq: Headquarters
) -> None:
    """Not one that came too late, though it is remembered; nor one of another id."""
    held_back, sent = hq.seal(), hq.seal()
    service.envelopes.bring(sent)
    with pytest.raises(EnvelopeStale):
        service.envelopes.bring(held_back)

    for text in (held_back, hq.seal()):
        with pytest.raises(ReceiptMissing):
            service.envelopes.recall(envelope_digest(text))
    with pytest.raises(EnvelopeReplayed):
        service.envelopes.bring_or_recall(held_back)


def test_a_receipt_says_whether_the_seed_is_there(
    service: Service, hq: Headquarters
) -> None:
    """Not after a later envelope took its place, nor after a deletion."""
    first, second = hq.seal(), hq.seal()
    for text in (first, second):
        service.envelopes.bring(text)

    def has_seed(text: str) -> bool:
        return service.envelopes.recall(envelope_digest(text)).has_seed

    assert [False, True] == [has_seed(first), has_seed(second)]
    service.accounts.delete("shop/alice")
    assert [False, False] == [has_seed(first), has_seed(second)]


def test_a_damaged_receipt_is_not_given(service: Service, hq: Headquarters) -> None:
    """Who writes the database gets no answer by what is no receipt."""
    text = hq.seal()
    service.envelopes.bring(text)
    jti = hq.open(text).claims.jti
    with service.store.transaction() as tx:
        tx.keep_receipt("hq", jti, digest=envelope_digest(text), receipt="a.b.c")

    with pytest.raises(StoreUnavailable, match="accepted_envelopes"):
        service.envelopes.recall(envelope_digest(text))


def test_an_event_that_was_altered_leads_nowhere(
    service: Service, hq: Headquarters
) -> None:
    """The newest envelope of an account is looked up by genuine events alone."""
    service.envelopes.bring(hq.seal())
    with service.store.transaction() as tx:
        (row,) = tx.newest_events(1, kind="envelope.accepted")
        tx.append_events([replace(row, detail="no JSON")])

    with pytest.raises(ReceiptMissing):
        service.envelopes.recall_newest("shop/alice")


def test_a_receipt_is_its_tenants(service: Service, hq: Headquarters) -> None:
    """A caller needs the scope; beyond its fence a receipt is as if it were not."""

    def digest(scope: Scope, prefix: str) -> bytes:
        made = service.callers.create("t", frozenset({scope}), prefix=prefix)
        return made.caller.digest

    text = hq.seal()
    service.envelopes.bring(text)
    known = envelope_digest(text)
    with pytest.raises(Unauthenticated):
        service.envelopes.recall(known, credential=bytes(32))
    with pytest.raises(Forbidden):
        service.envelopes.recall(known, credential=digest(Scope.ACCOUNTS, ""))
    with pytest.raises(ReceiptMissing):
        service.envelopes.recall(known, credential=digest(Scope.IMPORT, "bank/"))
    own = digest(Scope.IMPORT, "shop/")
    assert "shop/alice" == service.envelopes.recall(known, credential=own).account


def test_to_bring_or_to_recall(service: Service, hq: Headquarters) -> None:
    """The second time it is the same receipt, and no replay in the audit log."""
    text = hq.seal()

    brought = service.envelopes.bring_or_recall(text)
    again = service.envelopes.bring_or_recall(text)

    assert isinstance(brought, Brought)
    assert isinstance(again, Recalled)
    assert (brought.receipt, brought.account) == (again.receipt, again.account)
    assert ["envelope.accepted"] == [kind for kind, *_ in events(service, "envelope.")]


def test_of_many_enrolments_at_once_all_end_well(
    service: Service, hq: Headquarters
) -> None:
    """One makes the account, and all have its receipt."""
    service.own_keys.receipt_key()
    for _ in range(3):
        text, barrier = hq.seal(), threading.Barrier(8)
        found: list[Brought | Recalled] = []

        def send(
            text: str = text,
            barrier: threading.Barrier = barrier,
            found: list[Brought | Recalled] = found,
        ) -> None:
            barrier.wait()
            found.append(service.envelopes.bring_or_recall(text))

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 8 == len(found)
        assert 1 == sum(isinstance(each, Brought) for each in found)
        assert 1 == len({each.receipt for each in found})


def test_an_older_envelope_never_comes_late(service: Service, hq: Headquarters) -> None:
    """One that was held back: a seed that was rolled over must not come back."""
    held_back, sent = hq.seal(), hq.seal()
    service.envelopes.bring(sent)

    with pytest.raises(EnvelopeStale):
        service.envelopes.bring(held_back)
    service.accounts.delete("shop/alice")
    with pytest.raises((EnvelopeStale, EnvelopeReplayed)):
        service.envelopes.bring(held_back)

    assert [] == stored(service)


def test_an_id_is_used_once(service: Service, hq: Headquarters) -> None:
    """Two envelopes of one id, for two accounts, are one too many."""
    one = hq.claims(account="shop/a")
    service.envelopes.bring(hq.seal(one))

    with pytest.raises(EnvelopeReplayed):
        service.envelopes.bring(hq.seal(hq.claims(account="shop/b", jti=one.jti)))
    assert ["shop/a"] == stored(service)


def test_other_accounts_are_not_taken_over(
    service: Service, hq: Headquarters, book: TrustBook, service_keys: RsaKeys
) -> None:
    """Not one that was made here, nor one of another authority."""
    other = pinned(book, Headquarters(service_keys, name="other", last=100))
    service.import_sealed(sealed_to(service_keys), account="shop/alice")
    with pytest.raises(AccountExists):
        service.envelopes.bring(hq.seal())
    service.envelopes.bring(hq.seal(hq.claims(account="shop/bob")))

    with pytest.raises(AccountExists):
        service.envelopes.bring(other.seal(other.claims(account="shop/bob")))


def test_a_seed_of_another_account_is_refused(
    service: Service, hq: Headquarters
) -> None:
    """One seed, one account; and the envelope may come again once that is mended."""
    claims = hq.claims()
    service.envelopes.bring(hq.seal(claims))
    again = hq.seal(hq.claims(account="shop/bob", seed=claims.seed))
    with pytest.raises(SeedConflict):
        service.envelopes.bring(again)
    service.accounts.delete("shop/alice")

    assert service.envelopes.bring(again).is_new


def test_claims_that_are_none(
    service: Service, hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an authority must not sign is refused whole, though it signed it."""
    claims = hq.claims(seed=Secret(b"short"))
    with monkeypatch.context() as careless:
        careless.setattr(SeedClaims, "check", lambda _claims: None)
        text = hq.seal(claims)

    with pytest.raises(ClaimsRefused, match="bytes"):
        service.envelopes.bring(text)
    assert ["envelope.misdirected"] == [kind for kind, *_ in events(service, "env")]
    assert [] == stored(service)


def test_who_is_removed_brings_nothing(
    service: Service, hq: Headquarters, book: TrustBook
) -> None:
    """From the next envelope on; even one that is being opened just then."""
    text, second = hq.seal(), hq.seal()
    service.envelopes.bring(text)

    opener = service.envelopes._opener
    service.envelopes._opener = lambda text, pins: [
        opener(text, pins),
        book.remove("hq"),
    ][0]  # type: ignore[func-returns-value]
    with pytest.raises(EnvelopeRefused):
        service.envelopes.bring(second)

    service.envelopes._opener = opener
    with pytest.raises(EnvelopeRefused):
        service.envelopes.bring(second)


def test_a_planted_authority_is_not_believed(
    service: Service, hq: Headquarters, clock: TurnedClock
) -> None:
    """Who writes the database cannot pin himself, nor widen an authority's fence."""
    with service.store.transaction() as tx:
        (row,) = tx.pinned_authorities()
        tx.pin_authority(replace(row, prefix=""))
    text = hq.seal(hq.claims(account="bank/alice"))
    for _ in range(3):
        with pytest.raises(PinForged):
            service.envelopes.bring(text)

    clock.turn(120)
    service.upkeep.settle()
    told = events(service, "authority.pin-forged")
    assert [1, 2] == [detail["count"] for *_, detail in told]
    assert [] == events(service, "envelope.")
    assert [] == stored(service)


def test_an_authority_that_is_planted_meanwhile_is_counted(
    service: Service, hq: Headquarters
) -> None:
    """Between the opening and the acceptance, in the transaction that would accept."""
    opener = service.envelopes._opener

    def planting(text: str, pins: PinnedKeys) -> OpenedEnvelope:
        with service.store.transaction() as tx:
            (row,) = tx.pinned_authorities()
            tx.pin_authority(replace(row, prefix=""))
        return opener(text, pins)

    service.envelopes._opener = planting
    with pytest.raises(PinForged):
        service.envelopes.bring(hq.seal())

    assert 1 == len(events(service, "authority.pin-forged"))
    assert [] == stored(service)


def test_who_is_not_let_in_counts_nothing(service: Service, hq: Headquarters) -> None:
    """A stranger's request is no refused envelope: it is looked at no further."""
    with service.store.transaction() as tx:
        (row,) = tx.pinned_authorities()
        tx.pin_authority(replace(row, prefix=""))
    before = events(service)

    with pytest.raises(Unauthenticated):
        service.envelopes.bring(hq.seal(), credential=bytes(32))

    assert before == events(service)


@pytest.mark.parametrize("off", [*Suite])
def test_suites_can_be_switched_off(
    store: Store,
    storage_key: StorageKey,
    service_keys: RsaKeys,
    clock: TurnedClock,
    off: Suite,
) -> None:
    """OTPSEAL_ACCEPT_SUITES without it: none is opened, and each is counted."""
    service = Service(
        store,
        keys=service_keys,
        storage_key=storage_key,
        clock=clock,
        suites=set(Suite) - {off},
    )

    def send() -> None:
        if off is Suite.CLASSIC:
            service.import_sealed(sealed_to(service_keys))
        elif off is Suite.V1:
            service.envelopes.bring(Headquarters(service_keys).seal())
        else:
            service.envelopes.bring("otpseal-pq1.x.y")

    for _ in range(3):
        with pytest.raises(SuiteRefused, match=f"have to name {off}"):
            send()

    clock.turn(120)
    service.upkeep.settle()
    counts = [(kind, detail["count"]) for kind, _, detail in events(service)]
    assert [("suite.refused", 1), ("suite.refused", 2)] == counts
    assert [] == stored(service)


def test_callers_need_the_scope_and_their_fence(
    service: Service, hq: Headquarters
) -> None:
    """Nobody's token, a token without `import`, and one for other accounts."""

    def digest(scope: Scope, prefix: str) -> bytes:
        made = service.callers.create("t", frozenset({scope}), prefix=prefix)
        return made.caller.digest

    text = hq.seal()
    with pytest.raises(Unauthenticated):
        service.envelopes.bring(text, credential=bytes(32))
    with pytest.raises(Forbidden):
        service.envelopes.bring(text, credential=digest(Scope.VERIFY, ""))
    with pytest.raises(Forbidden):
        service.envelopes.bring(text, credential=digest(Scope.IMPORT, "bank/"))

    assert service.envelopes.bring(
        text, credential=digest(Scope.IMPORT, "shop/")
    ).is_new


def test_of_many_at_once_one_is_accepted(service: Service, hq: Headquarters) -> None:
    """One envelope by eight threads at a barrier: one makes the account."""
    service.own_keys.receipt_key()
    for _ in range(3):
        text, barrier = hq.seal(), threading.Barrier(8)
        answers: list[str] = []

        def send(
            text: str = text,
            barrier: threading.Barrier = barrier,
            answers: list[str] = answers,
        ) -> None:
            barrier.wait()
            try:
                service.envelopes.bring(text)
            except EnvelopeReplayed:
                answers.append("replayed")
            else:
                answers.append("accepted")

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert ["accepted", *["replayed"] * 7] == sorted(answers)


def test_spent_stays_spent(
    service: Service, hq: Headquarters, clock: TurnedClock
) -> None:
    """A seed that comes back by a new envelope has its used steps still."""
    claims = hq.claims()
    service.envelopes.bring(hq.seal(claims))
    row = service.account("shop/alice")
    assert row is not None
    code = service.show_code("shop/alice").text
    assert service.verify(code, "shop/alice").step is not None
    service.envelopes.bring(hq.seal())
    service.envelopes.bring(hq.seal(hq.claims(seed=claims.seed)))

    assert service.verify(code, "shop/alice").step is None


def test_the_receipt_key_is_kept(
    service: Service, store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """A restart finds it; and no page of the store shows it."""
    kid, key = service.own_keys.receipt_key()

    again = Service(store, keys=service.keys, storage_key=storage_key, clock=clock)

    assert kid == again.own_keys.receipt_key()[0]
    with store.transaction() as tx:
        (row,) = tx.service_keys("sig")
    assert key.private_bytes_raw() not in row.sealed
    assert 1 == len(events(service, "key.made"))


def test_pq_envelopes_by_the_same_way(service: Service, book: TrustBook) -> None:
    """Signed by two keys of one authority, sealed to the service's own pq key."""
    signer = PqSigner(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
    public = [signer.ed25519.public_key(), signer.ml_dsa.public_key()]
    keys = [public_jwk.canonical(key) for key in public]
    book.add("hq", json.dumps({"keys": keys}).encode(), prefix="shop/")
    (jwk,) = service.own_keys.pq_jwks()
    recipient = ImportPublicKey(base64url.decode(str(jwk["pub"])))
    hq = Headquarters(service.keys)  # type: ignore[arg-type]
    claims = hq.claims(audience=recipient.kid)
    text = pq_envelope.seal(claims, signer=signer, recipient=recipient)

    brought = service.envelopes.bring(text)

    assert ("hq", "pq", True) == (brought.authority, brought.suite, brought.is_new)
    row = service.account("shop/alice")
    assert row is not None
    assert claims.seed == row.open_seed(service.storage_key)
    with pytest.raises(EnvelopeReplayed):
        service.envelopes.bring(text)
    assert [jwk] == service.own_keys.pq_jwks()
    assert jwk["kid"] == recipient.kid


def test_one_half_of_a_pq_authority_is_nobody(
    service: Service, book: TrustBook
) -> None:
    """Its Ed25519 key alone, or each key pinned for another authority: refused."""
    signer = PqSigner(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
    classic = public_jwk.canonical(signer.ed25519.public_key())
    quantum = public_jwk.canonical(signer.ml_dsa.public_key())
    (jwk,) = service.own_keys.pq_jwks()
    recipient = ImportPublicKey(base64url.decode(str(jwk["pub"])))
    hq = Headquarters(service.keys)  # type: ignore[arg-type]
    text = pq_envelope.seal(
        hq.claims(audience=recipient.kid), signer=signer, recipient=recipient
    )
    book.add("hq", json.dumps({"keys": [classic]}).encode())
    with pytest.raises(EnvelopeRefused):
        service.envelopes.bring(text)
    book.add("other", json.dumps({"keys": [quantum]}).encode())
    with pytest.raises(EnvelopeRefused):
        service.envelopes.bring(text)
    assert [] == stored(service)


@pytest.mark.parametrize("way", ["made", "brought", "replaced"])
def test_what_was_changed_here_is_no_authoritys(
    service: Service, hq: Headquarters, clock: TurnedClock, way: str
) -> None:
    """An account that was made again, or had its seed replaced, is not taken over."""
    service.envelopes.bring(hq.seal())
    clock.turn(1)
    if way == "replaced":
        service.accounts.replace_seed("shop/alice")
    else:
        service.accounts.delete("shop/alice")
        if way == "made":
            service.accounts.create(NewAccount("shop/alice"))
        else:
            service.import_seed(Secret(bytes(32)), source="x", account="shop/alice")
    row = service.account("shop/alice")

    with pytest.raises(AccountExists):
        service.envelopes.bring(hq.seal())
    assert row == service.account("shop/alice")


def test_whose_keys_were_replaced_brings_nothing_by_the_old(
    service: Service, hq: Headquarters, book: TrustBook
) -> None:
    """Not even an envelope that is being opened just then."""
    opener, text = service.envelopes._opener, hq.seal()
    new = Headquarters(hq.keys)

    def slow(text: str, pins: PinnedKeys) -> OpenedEnvelope:
        opened = opener(text, pins)
        book.add("hq", new.public_jwks(), prefix="shop/", replace=True)
        return opened

    service.envelopes._opener = slow
    with pytest.raises(EnvelopeRefused):
        service.envelopes.bring(text)
    assert [] == stored(service)


def test_a_planted_pq_key_is_not_published(service: Service) -> None:
    """Who writes the database cannot have seeds sealed to a key of his own."""
    (jwk,) = service.own_keys.pq_jwks()
    with service.store.transaction() as tx:
        (row,) = tx.service_keys("pq")
        tx.add_service_key(replace(row, kid="his"))

    assert [jwk] == service.own_keys.pq_jwks()


def test_a_callers_fence_is_counted_too(service: Service, hq: Headquarters) -> None:
    """An envelope beyond the fence of who brings it leaves its trace."""
    made = service.callers.create("t", frozenset({Scope.IMPORT}), prefix="bank/")

    with pytest.raises(Forbidden):
        service.envelopes.bring(hq.seal(), credential=made.caller.digest)

    assert ["envelope.misdirected"] == [kind for kind, *_ in events(service, "env")]
