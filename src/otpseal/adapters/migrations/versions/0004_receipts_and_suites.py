"""Receipts are kept; a ticket says which suite its envelope is of."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("accepted_envelopes", sa.Column("digest", sa.LargeBinary))
    op.add_column("accepted_envelopes", sa.Column("receipt", sa.Text))
    op.create_index("accepted_envelopes_digest", "accepted_envelopes", ["digest"])
    op.add_column(
        "enrolment_tickets",
        sa.Column("suite", sa.String(8), nullable=False, server_default="v1"),
    )
