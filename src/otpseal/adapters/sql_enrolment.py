"""The tables of an authority's subscribers, their tickets and envelopes."""

from typing import Any

from sqlalchemy import RowMapping, delete, func, select

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_tables import Tables, damaged, upsert
from otpseal.errors import ParametersRefused
from otpseal.subscription import (
    IssuedEnvelope,
    Subscriber,
    Ticket,
    parse_parameters,
)
from otpseal.suite import Suite


class EnrolmentTables(Tables):
    """`otpseal.ports_enrolment.EnrolmentTransaction`."""

    def subscriber(self, name: str) -> Subscriber | None:
        """See `otpseal.ports_enrolment`."""
        table = schema.subscribers
        query = select(table).where(table.c.id == name).with_for_update()
        row = self._connection.execute(query).one_or_none()
        return None if row is None else Subscriber(*row)

    def subscribers(self) -> list[Subscriber]:
        """See `otpseal.ports_enrolment`."""
        query = select(schema.subscribers).order_by(schema.subscribers.c.id)
        return [Subscriber(*row) for row in self._connection.execute(query)]

    def put_subscriber(self, subscriber: Subscriber) -> None:
        """See `otpseal.ports_enrolment`."""
        self._connection.execute(
            upsert(self._connection, "subscribers", ("id",)),
            {
                "id": subscriber.id,
                "created_at": subscriber.created_at,
                "revoked_at": subscriber.revoked_at,
            },
        )

    def ticket(self, digest: bytes) -> Ticket | None:
        """See `otpseal.ports_enrolment`."""
        table = schema.enrolment_tickets
        query = select(table).where(table.c.digest == digest).with_for_update()
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _ticket(row)

    def put_ticket(self, ticket: Ticket) -> None:
        """See `otpseal.ports_enrolment`."""
        self._connection.execute(
            upsert(self._connection, "enrolment_tickets", ("digest",)),
            {
                "digest": ticket.digest,
                "subscriber": ticket.subscriber,
                "account": ticket.account,
                "parameters": ticket.parameters.canonical.decode("ascii"),
                "issuer": ticket.issuer,
                "label": ticket.label,
                "expires_at": ticket.expires_at,
                "kid": ticket.kid,
                "answer": ticket.answer,
                "suite": ticket.suite,
            },
        )

    def prune_tickets(self, before: float) -> int:
        """See `otpseal.ports_enrolment`."""
        table = schema.enrolment_tickets
        statement = delete(table).where(table.c.expires_at < before)
        return self._connection.execute(statement).rowcount

    def last_sequence(self, account: str) -> int | None:
        """See `otpseal.ports_enrolment`."""
        c = schema.issued_envelopes.c
        query = select(func.max(c.sequence)).where(c.account == account)
        found: int | None = self._connection.execute(query).scalar_one()
        return found

    def put_issued_envelope(self, issued: IssuedEnvelope) -> None:
        """See `otpseal.ports_enrolment`."""
        self._connection.execute(
            upsert(self._connection, "issued_envelopes", ("jti",)),
            {
                column.name: getattr(issued, column.name)
                for column in schema.issued_envelopes.columns
            },
        )

    def issued_envelope(self, digest: bytes) -> IssuedEnvelope | None:
        """See `otpseal.ports_enrolment`."""
        table = schema.issued_envelopes
        query = select(table).where(table.c.digest == digest).with_for_update()
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _issued(row)

    def issued_envelopes(self) -> list[IssuedEnvelope]:
        """See `otpseal.ports_enrolment`."""
        table = schema.issued_envelopes
        query = select(table).order_by(table.c.issued_at, table.c.jti)
        rows = self._connection.execute(query).mappings()
        return [_issued(row) for row in rows]


def _ticket(row: RowMapping) -> Ticket:
    values: dict[str, Any] = dict(row)
    try:
        parameters = parse_parameters(values.pop("parameters"))
        suite = Suite(values.pop("suite"))
        return Ticket(**values, parameters=parameters, suite=suite)
    except (ParametersRefused, TypeError, ValueError):
        raise damaged("enrolment_tickets") from None


def _issued(row: RowMapping) -> IssuedEnvelope:
    values: dict[str, Any] = dict(row)
    try:
        return IssuedEnvelope(**values | {"suite": Suite(values["suite"])})
    except (TypeError, ValueError):
        raise damaged("issued_envelopes") from None
