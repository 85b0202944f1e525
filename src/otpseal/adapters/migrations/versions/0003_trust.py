"""Authorities that are pinned, envelopes, import keys, subscribers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _id(length: int = 128) -> sa.String:
    collated = sa.String(length, collation="C")
    return sa.String(length).with_variant(collated, "postgresql")


def upgrade() -> None:
    _of_the_service()
    _of_the_authority()


def _of_the_service() -> None:
    op.create_table(
        "pinned_authorities",
        sa.Column("name", _id(64), primary_key=True),
        sa.Column("prefix", _id(), nullable=False),
        sa.Column("material", sa.Text, nullable=False),
        sa.Column("added_at", sa.Double, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "accepted_envelopes",
        sa.Column("authority", _id(64), primary_key=True),
        sa.Column("jti", _id(64), primary_key=True),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "envelope_sequences",
        sa.Column("account", _id(), primary_key=True),
        sa.Column("authority", _id(64), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("accepted_at", sa.Double, nullable=False),
    )
    op.create_table(
        "import_keys",
        sa.Column("kid", _id(43), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("public", sa.Text, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
        sa.Column("until", sa.Double, nullable=True),
        sa.Column("mac", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "service_keys",
        sa.Column("kid", _id(43), primary_key=True),
        sa.Column("use", sa.String(8), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
    )


def _of_the_authority() -> None:
    op.create_table(
        "subscribers",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double, nullable=True),
    )
    op.create_table(
        "enrolment_tickets",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("subscriber", _id(64), nullable=False),
        sa.Column("account", _id(), nullable=False),
        sa.Column("parameters", sa.String(32), nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("kid", _id(43), nullable=True),
        sa.Column("answer", sa.Text, nullable=True),
    )
    op.create_table(
        "issued_envelopes",
        sa.Column("jti", _id(64), primary_key=True),
        sa.Column("subscriber", _id(64), nullable=False),
        sa.Column("account", _id(), nullable=False),
        sa.Column("kid", _id(43), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("sealed_seed", sa.LargeBinary, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("issued_at", sa.Double, nullable=False),
        sa.Column("receipt_key", sa.LargeBinary, nullable=True),
        sa.Column("receipt", sa.Text, nullable=True),
        sa.Column("confirmed_at", sa.Double, nullable=True),
    )
    op.create_index(
        "issued_envelopes_account", "issued_envelopes", ["account", "sequence"]
    )
