"""What every `otpseal.ports.Store` promises of subscribers, tickets and envelopes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore
from test_store_contract import BIG, BYTES, REAL

from otpseal.ports import Store
from otpseal.subscription import IssuedEnvelope, Subscriber, Ticket
from otpseal.suite import Suite
from otpseal.totp import OtpType, Parameters

NAMES = st.text("abc/.-", min_size=1, max_size=30)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PARAMETERS = st.builds(
    Parameters,
    algorithm=st.sampled_from(["SHA1", "SHA256", "SHA512"]),
    digits=st.integers(6, 8),
    period=st.integers(15, 300),
    type=st.sampled_from(OtpType),
    window=st.integers(0, 1),
)
SUBSCRIBERS = st.builds(
    Subscriber, id=NAMES, created_at=REAL, revoked_at=st.none() | REAL
)
TICKETS = st.builds(
    Ticket,
    digest=BYTES,
    subscriber=NAMES,
    account=NAMES,
    expires_at=REAL,
    parameters=PARAMETERS,
    issuer=TEXTS,
    label=TEXTS,
    kid=st.none() | NAMES,
    answer=st.none() | TEXTS,
    suite=st.sampled_from(Suite),
)
ENVELOPES = st.builds(
    IssuedEnvelope,
    jti=NAMES,
    subscriber=NAMES,
    account=NAMES,
    kid=NAMES,
    sequence=BIG,
    digest=BYTES,
    sealed_seed=BYTES,
    nonce=BYTES,
    issued_at=REAL,
    receipt_key=st.none() | BYTES,
    receipt=st.none() | TEXTS,
    confirmed_at=st.none() | REAL,
    suite=st.sampled_from(Suite),
)


def envelope(jti: str, account: str = "a", sequence: int = 1) -> IssuedEnvelope:
    """Return an envelope with a digest of its own."""
    digest = jti.encode().ljust(32)
    return IssuedEnvelope(jti, "s", account, "k", sequence, digest, b"", b"", 1.0)


def test_what_was_put_is_found(store: Store) -> None:
    """Every field of any row comes back, and the second put replaces the first."""

    @given(subscriber=SUBSCRIBERS, ticket=TICKETS, issued=ENVELOPES)
    def check(subscriber: Subscriber, ticket: Ticket, issued: IssuedEnvelope) -> None:
        with store.transaction() as tx:
            for revoked_at in (None, subscriber.revoked_at):
                tx.put_subscriber(replace(subscriber, revoked_at=revoked_at))
            for answer in (None, ticket.answer):
                tx.put_ticket(replace(ticket, answer=answer))
            if (known := tx.issued_envelope(issued.digest)) is not None:
                issued = replace(issued, jti=known.jti)
            for receipt in (None, issued.receipt):
                tx.put_issued_envelope(replace(issued, receipt=receipt))

        with store.transaction() as tx:
            assert subscriber == tx.subscriber(subscriber.id)
            assert subscriber in tx.subscribers()
            assert ticket == tx.ticket(ticket.digest)
            assert issued == tx.issued_envelope(issued.digest)
            assert issued in tx.issued_envelopes()

    check()


def test_what_is_not_there(store: Store) -> None:
    """An empty store has no subscriber, ticket, sequence or envelope."""
    with store.transaction() as tx:
        assert tx.subscriber("a") is None
        assert tx.ticket(b"a") is None
        assert tx.issued_envelope(b"a") is None
        assert tx.last_sequence("a") is None
        assert [] == tx.subscribers()
        assert [] == tx.issued_envelopes()
        assert tx.prune_tickets(1e12) == 0


def test_the_last_sequence_is_the_accounts_greatest(store: Store) -> None:
    """Whatever the order, and whatever other accounts have."""
    with store.transaction() as tx:
        tx.put_issued_envelope(envelope("1", "a", 2**53 - 1))
        tx.put_issued_envelope(envelope("2", "a", 7))
        tx.put_issued_envelope(envelope("3", "a/b", 9))

    with store.transaction() as tx:
        assert 2**53 - 1 == tx.last_sequence("a")
        assert 9 == tx.last_sequence("a/b")
        assert tx.last_sequence("A") is None


def test_subscribers_come_by_id(store: Store) -> None:
    """In the order of their bytes."""
    with store.transaction() as tx:
        for name in ("b", "a-b", "a", "a.b"):
            tx.put_subscriber(Subscriber(name, 1.0))

    with store.transaction() as tx:
        assert ["a", "a-b", "a.b", "b"] == [row.id for row in tx.subscribers()]


def test_envelopes_come_by_time(store: Store) -> None:
    """The oldest first; those of one moment by their jti."""
    with store.transaction() as tx:
        for jti, at in (("c", 2.0), ("b", 1.0), ("a", 2.0)):
            tx.put_issued_envelope(replace(envelope(jti), issued_at=at))

    with store.transaction() as tx:
        assert ["b", "a", "c"] == [row.jti for row in tx.issued_envelopes()]


def test_expired_tickets_are_pruned(store: Store) -> None:
    """Those of before that time, and no others."""
    with store.transaction() as tx:
        for digest, until in ((b"1", 9.9), (b"2", 10.0), (b"3", 11.0)):
            tx.put_ticket(Ticket(digest, "s", "a", until))
        assert tx.prune_tickets(10.0) == 1

    with store.transaction() as tx:
        assert [False, True, True] == [
            tx.ticket(digest) is not None for digest in (b"1", b"2", b"3")
        ]


def test_memory_forgets_what_failed() -> None:
    """The fake rolls back these tables too."""
    store = MemoryStore()
    try:
        with store.transaction() as tx:
            tx.put_subscriber(Subscriber("a", 1.0))
            tx.put_ticket(Ticket(b"1", "a", "a", 1.0))
            tx.put_issued_envelope(envelope("1"))
            raise InterruptedError
    except InterruptedError:
        pass

    with store.transaction() as tx:
        assert [] == tx.subscribers()
        assert [] == tx.issued_envelopes()
        assert tx.ticket(b"1") is None
