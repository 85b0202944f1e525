"""An authority's subscribers, on its own machine: admitted, given tickets, revoked.

What they then ask over the network is `otpseal.enrolment`.
"""

import secrets
from dataclasses import dataclass, field, replace

from otpseal import subscription
from otpseal.account_id import parse_account_id
from otpseal.audit import Event, Kind
from otpseal.errors import (
    ParametersRefused,
    ReceiptRefused,
    StoreUnavailable,
    SubscriberRefused,
)
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Store
from otpseal.receipt_form import parse
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey
from otpseal.subscription import Subscriber, Ticket
from otpseal.suite import Suite
from otpseal.totp import CLASSIC, Parameters

#: How long an expired ticket stays to be looked at, in seconds.
_KEPT_S = 30 * 86_400
_MAX_SHOWN_BYTES = 128


@dataclass(frozen=True, slots=True)
class Offer:
    """What a ticket is for.

    Attributes:
        account: the account's id in the service.
        parameters: of the seed that will be made.
        issuer: shown by authenticator apps; at most 128 bytes of UTF-8.
        label: likewise.
        suite: the form of the envelope, v1 or pq.
    """

    account: str
    parameters: Parameters = CLASSIC
    issuer: str = ""
    label: str = ""
    suite: Suite = Suite.V1


@dataclass(frozen=True, slots=True)
class NewTicket:
    """A ticket that was made.

    Attributes:
        ticket: its text, shown this once.
        expires_at: Unix seconds.
    """

    ticket: Secret = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """One envelope, and whether its seed is known to have arrived.

    Attributes:
        subscriber: who asked for it.
        account: the account that its seed is for.
        suite: its form.
        kid: the import key that it is sealed to.
        jti: its id.
        sequence: its `seq`.
        issued_at: Unix seconds.
        confirmed_at: when a receipt verified, in Unix seconds; None if none did.
        event: the service's audit event about it; None likewise.
    """

    subscriber: str
    account: str
    suite: Suite
    kid: str
    jti: str
    sequence: int
    issued_at: float
    confirmed_at: float | None
    event: int | None


class SubscriberBook:
    """Admits, lists and revokes subscribers, and gives them tickets.

    Args:
        store: durable state.
        storage_key: authenticates the audit events.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def add(self, name: str) -> None:
        """Admit a subscriber; it can do nothing without a ticket.

        Raises:
            SubscriberRefused: not a name, or taken. A revoked one's is not used
                again, so that what the audit log says of it stays true.
            StoreUnavailable: nothing was changed.
        """
        if not subscription.is_subscriber(name):
            raise SubscriberRefused(
                "a subscriber has 1 to 64 of a-z, 0-9 and . _ -, beginning with a"
                " letter or digit"
            )
        with self._store.transaction() as tx:
            now = self._clock()
            if tx.subscriber(name) is not None:
                raise SubscriberRefused(
                    "there is or was a subscriber of this name: take another"
                )
            tx.put_subscriber(Subscriber(name, now))
            event = Event(Kind.SUBSCRIBER_ADDED, now, detail={"subscriber": name})
            Ledger(tx, self._storage_key).record(event)

    def all(self) -> list[Subscriber]:
        """Return every subscriber, revoked ones too."""
        with self._store.transaction(shared=True) as tx:
            return tx.subscribers()

    def revoke(self, name: str) -> None:
        """Revoke a subscriber: no ticket of it is good any more, no receipt is taken.

        Seeds that it has it keeps: they are the accounts' to delete, in the service.

        Raises:
            SubscriberRefused: there is none, or it is revoked already.
            StoreUnavailable: nothing was changed.
        """
        with self._store.transaction() as tx:
            now = self._clock()
            found = _valid(tx.subscriber(name))
            tx.put_subscriber(replace(found, revoked_at=now))
            event = Event(Kind.SUBSCRIBER_REVOKED, now, detail={"subscriber": name})
            Ledger(tx, self._storage_key).record(event)

    def give_ticket(self, name: str, offer: Offer) -> NewTicket:
        """Make a ticket for one account; it is good for a day, and for one key.

        Raises:
            AccountIdRefused, ParametersRefused: what cannot be; nobody signs what is
                sealed in the classic form.
            SubscriberRefused: no such subscriber, or a text that is too long.
            StoreUnavailable: nothing was made.
        """
        parse_account_id(offer.account)
        offer.parameters.check()
        if offer.suite not in subscription.SUITES:
            raise ParametersRefused("a ticket is for an envelope of the suite v1 or pq")
        for text in (offer.issuer, offer.label):
            _check_shown(text)
        ticket = subscription.new_ticket(secrets.token_bytes(subscription.TICKET_BYTES))
        digest = subscription.ticket_digest(ticket)
        assert digest is not None
        with self._store.transaction() as tx:
            now = self._clock()
            _valid(tx.subscriber(name))
            until = now + subscription.TICKET_LIFETIME_S
            tx.put_ticket(
                Ticket(
                    digest=subscription.resting(digest),
                    subscriber=name,
                    account=offer.account,
                    expires_at=until,
                    parameters=offer.parameters,
                    issuer=offer.issuer,
                    label=offer.label,
                    suite=offer.suite,
                )
            )
            tx.prune_tickets(now - _KEPT_S)
            detail: dict[str, int | str] = {"subscriber": name, "suite": offer.suite}
            event = Event(Kind.TICKET_MADE, now, offer.account, detail)
            Ledger(tx, self._storage_key).record(event)
        return NewTicket(ticket, until)

    def deliveries(self) -> list[Delivered]:
        """Return what was sent, in the order of time, and what came back.

        Raises:
            StoreUnavailable: among others, a receipt that rests here is none.
        """
        with self._store.transaction(shared=True) as tx:
            rows = tx.issued_envelopes()
        return [
            Delivered(
                subscriber=row.subscriber,
                account=row.account,
                suite=row.suite,
                kid=row.kid,
                jti=row.jti,
                sequence=row.sequence,
                issued_at=row.issued_at,
                confirmed_at=row.confirmed_at,
                event=_event(row.receipt),
            )
            for row in rows
        ]


def _event(receipt: str | None) -> int | None:
    try:
        return None if receipt is None else parse(receipt).event
    except ReceiptRefused:
        raise StoreUnavailable(
            "a row of the issued_envelopes table is damaged: restore the database from"
            " a backup"
        ) from None


def _valid(found: Subscriber | None) -> Subscriber:
    if found is None or found.revoked_at is not None:
        raise SubscriberRefused(
            "there is no such subscriber, or it is revoked: `otpseal authority"
            " subscriber list` shows them"
        )
    return found


def _check_shown(text: str) -> None:
    if len(text.encode("utf-8", "replace")) > _MAX_SHOWN_BYTES or not (
        text.isprintable()
    ):
        raise SubscriberRefused(
            f"issuer and label have at most {_MAX_SHOWN_BYTES} bytes, none of them"
            " control characters"
        )
