"""The tables, one schema for SQLite and PostgreSQL.

Times are Unix seconds as doubles, but for `at_ms` of events, whose canonical bytes
need integers. The migrations beside this file build the same; a test compares them.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

storage_keys = Table(
    "storage_keys",
    metadata,
    # One row only: a store has one storage key.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("record", LargeBinary, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("sealed_seed", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("algorithm", String(8), nullable=False),
    Column("digits", Integer, nullable=False),
    Column("period", Integer, nullable=False),
    Column("imported_at", Double, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("wait_until", Double, nullable=False),
    Column("refused", BigInteger, nullable=False),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("account", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    # No index on at_ms and no AUTOINCREMENT: each is pages more in every commit, and
    # pruning, which alone would use them, keeps the newest row (so that no id is ever
    # given twice) and can afford to read the table once a day.
)

tallies = Table(
    "tallies",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("account", String(128), primary_key=True),
    Column("pending", BigInteger, nullable=False),
    Column("since", Double, nullable=False),
)

marks = Table(
    "marks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("last_step", BigInteger, nullable=False),
    Column("until", Double, nullable=False),
)

issued_seeds = Table(
    "issued_seeds",
    metadata,
    Column("pair", LargeBinary, primary_key=True),
    Column("student_id", Text, nullable=False),
    Column("github_repo_url", Text, nullable=False),
    Column("kid", String(43), nullable=False),
    Column("sealed_seed", LargeBinary, nullable=False),
    Column("issued_at", Double, nullable=False),
)
