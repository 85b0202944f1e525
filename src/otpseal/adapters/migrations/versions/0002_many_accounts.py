"""Accounts with parameters of their own, callers, their budgets, recovery codes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _id(length: int = 128) -> sa.String:
    collated = sa.String(length, collation="C")
    return sa.String(length).with_variant(collated, "postgresql")


def _index_refusing(table: str) -> None:
    some = sa.text("refused > 0")
    op.create_index(
        f"{table}_refused",
        table,
        ["refused"],
        sqlite_where=some,
        postgresql_where=some,
    )


def upgrade() -> None:
    # A new table and a copy: the same on both databases, and nothing half changed.
    op.create_table(
        "accounts_0002",
        sa.Column("id", _id(), primary_key=True),
        sa.Column("sealed_seed", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("type", sa.String(4), nullable=False),
        sa.Column("algorithm", sa.String(8), nullable=False),
        sa.Column("digits", sa.Integer, nullable=False),
        sa.Column("period", sa.Integer, nullable=False),
        sa.Column("window_steps", sa.Integer, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("imported_at", sa.Double, nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("drift", sa.Integer, nullable=False),
        sa.Column("failures_in_all", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("wait_until", sa.Double, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO accounts_0002 SELECT id, sealed_seed, fingerprint, 'totp',"
        " algorithm, digits, period, 1, '', '', imported_at,"
        " CASE WHEN disabled THEN 'disabled' ELSE 'active' END, last_step, 0, failures,"
        " failures, wait_until, refused FROM accounts"
    )
    op.drop_table("accounts")
    op.rename_table("accounts_0002", "accounts")
    _index_refusing("accounts")
    op.create_table(
        "callers",
        sa.Column("id", _id(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=True),
        sa.Column("revoked_at", sa.Double, nullable=True),
        sa.Column("strangers", sa.Integer, nullable=False),
    )
    op.create_table(
        "budgets",
        sa.Column("caller", _id(32), primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("account", _id(), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("wait_until", sa.Double, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.Column("touched_at", sa.Double, nullable=False),
    )
    op.create_index("budgets_account", "budgets", ["account"])
    _index_refusing("budgets")
    op.create_table(
        "recovery_codes",
        sa.Column("account", _id(), primary_key=True),
        sa.Column("digest", sa.LargeBinary, primary_key=True),
    )
