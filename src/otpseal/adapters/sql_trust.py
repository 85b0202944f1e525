"""The tables of pinned authorities, and of the envelopes accepted from them."""

from sqlalchemy import ColumnElement, and_, delete, select, update

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_tables import Tables, insert_into, upsert
from otpseal.ports_trust import EnvelopeSequence, KeptReceipt, PinnedRow


class TrustTables(Tables):
    """`otpseal.ports.Transaction`, as far as it is about trust."""

    def pinned_authorities(self) -> list[PinnedRow]:
        """See `otpseal.ports_trust.TrustTransaction`."""
        query = select(schema.pinned_authorities).order_by(
            schema.pinned_authorities.c.name
        )
        return [PinnedRow(*row) for row in self._connection.execute(query)]

    def pin_authority(self, row: PinnedRow) -> None:
        """See `otpseal.ports_trust.TrustTransaction`."""
        self._connection.execute(
            upsert(self._connection, "pinned_authorities", ("name",)),
            {
                "name": row.name,
                "prefix": row.prefix,
                "material": row.material,
                "added_at": row.added_at,
                "mac": row.mac,
            },
        )

    def unpin_authority(self, name: str) -> bool:
        """See `otpseal.ports_trust.TrustTransaction`."""
        table = schema.pinned_authorities
        statement = delete(table).where(table.c.name == name)
        return self._connection.execute(statement).rowcount == 1

    def remember_envelope(self, authority: str, jti: str, expires_at: float) -> bool:
        """See `otpseal.ports_trust.TrustTransaction`."""
        statement = insert_into(self._dialect, "accepted_envelopes")
        told = statement.on_conflict_do_nothing().returning(
            schema.accepted_envelopes.c.jti
        )
        values = {"authority": authority, "jti": jti, "expires_at": expires_at}
        return self._connection.execute(told, values).one_or_none() is not None

    def keep_receipt(
        self, authority: str, jti: str, *, digest: bytes, receipt: str
    ) -> None:
        """See `otpseal.ports_trust.TrustTransaction`."""
        c = schema.accepted_envelopes.c
        statement = update(schema.accepted_envelopes).where(
            c.authority == authority, c.jti == jti
        )
        self._connection.execute(statement.values(digest=digest, receipt=receipt))

    def receipt_for(self, digest: bytes) -> KeptReceipt | None:
        """See `otpseal.ports_trust.TrustTransaction`."""
        return self._receipt(schema.accepted_envelopes.c.digest == digest)

    def receipt_of(self, authority: str, jti: str) -> KeptReceipt | None:
        """See `otpseal.ports_trust.TrustTransaction`."""
        c = schema.accepted_envelopes.c
        return self._receipt(and_(c.authority == authority, c.jti == jti))

    def _receipt(self, which: ColumnElement[bool]) -> KeptReceipt | None:
        c = schema.accepted_envelopes.c
        query = select(c.authority, c.receipt).where(which, c.receipt.is_not(None))
        row = self._connection.execute(query).first()
        return None if row is None else KeptReceipt(*row)

    def forget_envelopes(self, before: float) -> int:
        """See `otpseal.ports_trust.TrustTransaction`."""
        table = schema.accepted_envelopes
        statement = delete(table).where(table.c.expires_at < before)
        return self._connection.execute(statement).rowcount

    def envelope_sequence(self, account: str) -> EnvelopeSequence | None:
        """See `otpseal.ports_trust.TrustTransaction`."""
        self._lock([("envelope", account.encode())])
        table = schema.envelope_sequences
        query = select(table).where(table.c.account == account).with_for_update()
        row = self._connection.execute(query).one_or_none()
        return None if row is None else EnvelopeSequence(*row)

    def put_envelope_sequence(self, sequence: EnvelopeSequence) -> None:
        """See `otpseal.ports_trust.TrustTransaction`."""
        self._connection.execute(
            upsert(self._connection, "envelope_sequences", ("account",)),
            {
                "account": sequence.account,
                "authority": sequence.authority,
                "sequence": sequence.sequence,
                "accepted_at": sequence.accepted_at,
            },
        )
