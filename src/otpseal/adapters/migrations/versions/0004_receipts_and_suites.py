"""Receipts are kept; a ticket, and what it brought, say which suite it is of."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("accepted_envelopes", sa.Column("digest", sa.LargeBinary))
    op.add_column("accepted_envelopes", sa.Column("receipt", sa.Text))
    op.create_index("accepted_envelopes_digest", "accepted_envelopes", ["digest"])
    for table in ("enrolment_tickets", "issued_envelopes"):
        op.add_column(
            table,
            sa.Column("suite", sa.String(8), nullable=False, server_default="v1"),
        )
