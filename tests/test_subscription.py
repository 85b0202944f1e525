"""Tickets, subscribers and sequence numbers: which are good."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_store_contract_enrolment import PARAMETERS

from otpseal import subscription
from otpseal.errors import CapacityReached, EnrolmentRefused, ParametersRefused
from otpseal.secret import Secret
from otpseal.subscription import Subscriber, Ticket, admit, digest_of
from otpseal.totp import Parameters

NOW = 1_800_000_000.0
OWNER = Subscriber("shop", NOW - 10)
TICKET = Ticket(bytes(32), "shop", "a", NOW + 1)


def test_a_ticket_is_256_random_bits() -> None:
    """The prefix, then 32 bytes in base64url; it is known by SHA-256 of all that."""
    ticket = subscription.new_ticket(bytes(range(32)))
    text = ticket.reveal()

    assert text == b"otpticket_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert hashlib.sha256(text).digest() == subscription.ticket_digest(ticket)
    with pytest.raises(ValueError, match="32 random bytes"):
        subscription.new_ticket(bytes(16))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"otpticket_",
        b"otpseal_" + b"A" * 43,
        b"otpticket_" + b"A" * 44,
        b" otpticket_" + b"A" * 43,
        b"otpticket_" + b"A" * 42 + b"=",
    ],
)
def test_other_texts_are_no_tickets(text: bytes) -> None:
    """A file with something else in it is told from a ticket."""
    assert subscription.ticket_digest(Secret(text)) is None


@given(digest=st.binary(min_size=32, max_size=32))
def test_a_digest_travels_in_two_spellings(digest: bytes) -> None:
    """As base64url, which we write, and as hex, which `sha256sum` does."""
    assert digest == digest_of(subscription.challenge_of(digest))
    assert digest == digest_of(digest.hex())


@given(text=st.text(max_size=70))
def test_reading_a_challenge_is_total(text: str) -> None:
    """Any text gives 32 bytes or nothing."""
    found = digest_of(text)

    assert found is None or text in {
        found.hex(),
        subscription.challenge_of(found),
    }


@pytest.mark.parametrize(
    "text",
    [
        "A" * 44,
        "A" * 42 + "B",
        "A" * 42,
        "A" * 43 + "=",
        "A" * 43 + "\n",
        "AB" * 32,
        "ab" * 31,
        "\u0661" * 64,
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    """One digest has one base64url and one hex spelling."""
    assert digest_of(text) is None


def test_a_good_ticket_is_admitted() -> None:
    """Unused, or used by the same key."""
    used = replace(TICKET, kid="k")

    assert TICKET == admit(TICKET, OWNER, "k", NOW)
    assert used == admit(used, OWNER, "k", NOW)


@pytest.mark.parametrize(
    ("ticket", "owner"),
    [
        (None, None),
        (None, OWNER),
        (TICKET, None),
        (TICKET, replace(OWNER, revoked_at=NOW - 5)),
        (TICKET, replace(OWNER, id="other")),
        (replace(TICKET, expires_at=NOW), OWNER),
        (replace(TICKET, kid="other"), OWNER),
        (replace(TICKET, kid="other", answer="x"), OWNER),
        (replace(TICKET, kid=""), OWNER),
    ],
)
def test_no_other_is(ticket: Ticket | None, owner: Subscriber | None) -> None:
    """Unknown, without owner, revoked, expired, taken: one error for all."""
    with pytest.raises(EnrolmentRefused):
        admit(ticket, owner, "k", NOW)


@given(
    last=st.none() | st.integers(1, 2**53 - 2),
    now=st.floats(0, 4e9, allow_nan=False),
)
def test_a_sequence_rises(last: int | None, now: float) -> None:
    """Above the last, at least the time in ms, in range for every JSON reader."""
    found = subscription.next_sequence(last, now)

    assert found > (0 if last is None else last)
    assert found >= int(now * 1000)
    assert found <= 2**53 - 1


def test_the_last_sequence_has_no_next() -> None:
    """Beyond 2**53 - 1 readers would not agree on the number."""
    with pytest.raises(CapacityReached):
        subscription.next_sequence(2**53 - 1, NOW)


@given(parameters=PARAMETERS)
def test_parameters_are_read_back(parameters: Parameters) -> None:
    """What is canonical is read as it was written."""
    text = parameters.canonical.decode()

    assert parameters == subscription.parse_parameters(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "totp,SHA1,6,30",
        "totp,MD5,6,30,1",
        "totp,SHA1,9,30,1",
        "totp,SHA1,6,9,1",
        "totp,SHA1,6,30,1\n",
        "TOTP,SHA1,6,30,1",
        "totp,SHA1,\u0666,30,1",
    ],
)
def test_other_parameters_are_refused(text: str) -> None:
    """A damaged row is noticed."""
    with pytest.raises(ParametersRefused):
        subscription.parse_parameters(text)


@pytest.mark.parametrize("name", ["a", "0", "shop.example", "a-b_c.d", "a" * 64])
def test_subscribers_names(name: str) -> None:
    """Lower case, digits and . _ -."""
    assert subscription.is_subscriber(name)


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a/b", "a b", "a\n", "a" * 65])
def test_other_names_are_refused(name: str) -> None:
    """Nothing that could be taken for another."""
    assert not subscription.is_subscriber(name)
