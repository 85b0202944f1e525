"""The part of `otpseal.ports.Transaction` that is about an authority's subscribers."""

from typing import Protocol

from otpseal.subscription import IssuedEnvelope, Subscriber, Ticket


class EnrolmentTransaction(Protocol):
    """Subscribers, their tickets, and the envelopes that they were sent."""

    def subscriber(self, name: str) -> Subscriber | None:
        """Return a subscriber, its row locked."""

    def subscribers(self) -> list[Subscriber]:
        """Return every subscriber, by id."""

    def put_subscriber(self, subscriber: Subscriber) -> None:
        """Insert a subscriber, or replace the one of that id."""

    def ticket(self, digest: bytes) -> Ticket | None:
        """Return a ticket, its row locked."""

    def put_ticket(self, ticket: Ticket) -> None:
        """Insert a ticket, or replace the one of that digest."""

    def prune_tickets(self, before: float) -> int:
        """Delete the tickets that expired before that; returns how many."""

    def last_sequence(self, account: str) -> int | None:
        """Return the greatest sequence of the account's envelopes, or None."""

    def put_issued_envelope(self, issued: IssuedEnvelope) -> None:
        """Insert an issued envelope, or replace the one of that jti."""

    def issued_envelope(self, digest: bytes) -> IssuedEnvelope | None:
        """Return the envelope of that digest, its row locked."""

    def issued_envelopes(self) -> list[IssuedEnvelope]:
        """Return every issued envelope, in the order of time."""
