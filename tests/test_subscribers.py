"""The authority's book of subscribers, over a real store."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TurnedClock
from memory_store import MemoryStore
from stores import make_sqlite

from otpseal import subscription
from otpseal.errors import (
    AccountIdRefused,
    ParametersRefused,
    SubscriberRefused,
)
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey
from otpseal.subscribers import Offer, SubscriberBook
from otpseal.totp import Parameters

STORAGE_KEY = StorageKey(Secret(bytes(range(32))))


@pytest.fixture
def memory() -> MemoryStore:
    """An empty store."""
    return MemoryStore()


@pytest.fixture
def book(memory: MemoryStore, clock: TurnedClock) -> SubscriberBook:
    """A book with the subscriber `shop`."""
    made = SubscriberBook(memory, STORAGE_KEY, clock)
    made.add("shop")
    return made


@pytest.fixture
def on_disk(tmp_path: Path, clock: TurnedClock) -> Iterator[SubscriberBook]:
    """A book in an SQLite file."""
    store = make_sqlite(tmp_path)
    yield SubscriberBook(store, STORAGE_KEY, clock)
    store.close()


def events(store: MemoryStore) -> list[tuple[str, str, dict[str, object]]]:
    """Return kind, account and detail of every audit event."""
    rows = store.committed.events
    return [(row.kind, row.account, json.loads(row.detail)) for row in rows]


def test_a_subscriber_is_added_and_revoked(
    book: SubscriberBook, memory: MemoryStore, clock: TurnedClock
) -> None:
    """Both are listed and recorded, with their times."""
    clock.turn(5)

    book.revoke("shop")

    (found,) = book.all()
    assert ("shop", clock.now - 5, clock.now) == (
        found.id,
        found.created_at,
        found.revoked_at,
    )
    assert [
        ("authority.subscriber-added", "", {"subscriber": "shop"}),
        ("authority.subscriber-revoked", "", {"subscriber": "shop"}),
    ] == events(memory)


def test_a_name_is_given_once(book: SubscriberBook) -> None:
    """Not while it is used, and not after it was revoked."""
    with pytest.raises(SubscriberRefused):
        book.add("shop")
    book.revoke("shop")
    with pytest.raises(SubscriberRefused):
        book.add("shop")


@pytest.mark.parametrize("name", ["", "Shop", "a b", "../x"])
def test_a_wrong_name_is_refused(book: SubscriberBook, name: str) -> None:
    """And nothing is stored."""
    with pytest.raises(SubscriberRefused):
        book.add(name)

    assert ["shop"] == [row.id for row in book.all()]


def test_who_is_not_there_is_not_revoked(book: SubscriberBook) -> None:
    """Neither a stranger, nor anyone twice."""
    book.revoke("shop")

    for name in ("shop", "other"):
        with pytest.raises(SubscriberRefused):
            book.revoke(name)


def test_a_ticket_is_for_one_subscriber_and_account(
    book: SubscriberBook, memory: MemoryStore, clock: TurnedClock
) -> None:
    """It is good for 24 hours, and recorded without its text."""
    offer = Offer("a/b", Parameters("SHA256", 8, 60), "Shop", "anna")

    made = book.give_ticket("shop", offer)

    shown = subscription.ticket_digest(made.ticket)
    assert shown is not None
    digest = subscription.resting(shown)
    assert {digest: subscription.Ticket(digest, "shop", "a/b", clock.now + 86_400)} == {
        key: subscription.Ticket(
            row.digest, row.subscriber, row.account, row.expires_at
        )
        for key, row in memory.committed.tickets.items()
    }
    ticket = memory.committed.tickets[digest]
    assert (offer.parameters, "Shop", "anna") == (
        ticket.parameters,
        ticket.issuer,
        ticket.label,
    )
    detail = {"subscriber": "shop", "suite": "v1"}
    assert ("authority.ticket-made", "a/b", detail) == events(memory)[-1]


def test_a_ticket_rests_hashed(on_disk: SubscriberBook, tmp_path: Path) -> None:
    """Who reads the database has no ticket, and its repr shows none."""
    on_disk.add("shop")
    made = on_disk.give_ticket("shop", Offer("a"))
    text = made.ticket.reveal()

    with closing(sqlite3.connect(tmp_path / "otpseal.db")) as connection:
        dump = "\n".join(connection.iterdump()).encode()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    shown = subscription.ticket_digest(made.ticket) or b"none"
    assert subscription.resting(shown) in files
    # What a request shows must not be read here.
    assert shown not in files
    assert text.removeprefix(b"otpticket_") not in dump + files
    assert text.decode() not in repr(made)


def test_no_two_tickets_are_alike(book: SubscriberBook) -> None:
    """Each has random bits of its own."""
    tickets = {book.give_ticket("shop", Offer("a")).ticket.reveal() for _ in range(20)}

    assert 20 == len(tickets)


@pytest.mark.parametrize("name", ["other", "gone"])
def test_no_ticket_without_a_subscriber(book: SubscriberBook, name: str) -> None:
    """A stranger has none, and who was revoked has none any more."""
    book.add("gone")
    book.revoke("gone")

    with pytest.raises(SubscriberRefused):
        book.give_ticket(name, Offer("a"))


@pytest.mark.parametrize(
    ("offer", "error"),
    [
        (Offer("A"), AccountIdRefused),
        (Offer("a", Parameters(digits=9)), ParametersRefused),
        (Offer("a", issuer="x" * 129), SubscriberRefused),
        (Offer("a", label="é" * 65), SubscriberRefused),
        (Offer("a", label="\x1b[2J"), SubscriberRefused),
        (Offer("a", label="\ud800"), SubscriberRefused),
    ],
)
def test_a_wrong_offer_is_refused(
    book: SubscriberBook, memory: MemoryStore, offer: Offer, error: type[Exception]
) -> None:
    """Before anything is stored."""
    with pytest.raises(error):
        book.give_ticket("shop", offer)

    assert {} == memory.committed.tickets


def test_old_tickets_are_forgotten(
    book: SubscriberBook, memory: MemoryStore, clock: TurnedClock
) -> None:
    """A month after they expired, when the next is made."""
    book.give_ticket("shop", Offer("a"))
    clock.turn(32 * 86_400)

    book.give_ticket("shop", Offer("b"))

    assert ["b"] == [row.account for row in memory.committed.tickets.values()]
