"""The tables, one schema for SQLite and PostgreSQL.

Times are Unix seconds as doubles, but for `at_ms` of events, whose canonical bytes
need integers. The migrations beside this file build the same; a test compares them.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()


def _id(length: int = 128) -> String:
    # Ids are compared and sorted by their bytes on both; PostgreSQL would otherwise
    # sort by the language of whoever made the database, and skip pages of a list.
    collated = String(length, collation="C")
    return String(length).with_variant(collated, "postgresql")


storage_keys = Table(
    "storage_keys",
    metadata,
    # One row only: a store has one storage key.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("record", LargeBinary, nullable=False),
)


def _index_of_refusing(table: str) -> Index:
    # Partial: a row that counts no refusals costs nothing.
    some = text("refused > 0")
    return Index(
        f"{table}_refused", "refused", sqlite_where=some, postgresql_where=some
    )


accounts = Table(
    "accounts",
    metadata,
    Column("id", _id(), primary_key=True),
    Column("sealed_seed", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("type", String(4), nullable=False),
    Column("algorithm", String(8), nullable=False),
    Column("digits", Integer, nullable=False),
    Column("period", Integer, nullable=False),
    Column("window_steps", Integer, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("imported_at", Double, nullable=False),
    Column("status", String(8), nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("drift", Integer, nullable=False),
    # Of all callers together; what follows is the budget of this machine's own.
    Column("failures_in_all", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("wait_until", Double, nullable=False),
    Column("refused", BigInteger, nullable=False),
    # For every minute's look: of a million accounts a handful count refusals.
    _index_of_refusing("accounts"),
)

callers = Table(
    "callers",
    metadata,
    Column("id", _id(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=True),
    Column("revoked_at", Double, nullable=True),
    Column("strangers", Integer, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("caller", _id(32), primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("account", _id(), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("wait_until", Double, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("touched_at", Double, nullable=False),
    # By the minute, and when an account is enabled or deleted; never in a decision.
    Index("budgets_account", "account"),
    _index_of_refusing("budgets"),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("account", _id(), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
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

# What a service knows of authorities, and of the envelopes that they sealed.

pinned_authorities = Table(
    "pinned_authorities",
    metadata,
    Column("name", _id(64), primary_key=True),
    Column("prefix", _id(), nullable=False),
    # The canonical form of its keys, see `otpseal.trust`; `mac` is over the whole row.
    Column("material", Text, nullable=False),
    Column("added_at", Double, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

accepted_envelopes = Table(
    "accepted_envelopes",
    metadata,
    Column("authority", _id(64), primary_key=True),
    Column("jti", _id(64), primary_key=True),
    Column("expires_at", Double, nullable=False),
    # SHA-256 of the envelope's text, and its receipt; null for one that brought no
    # seed because it came too late, and for those of before receipts were kept.
    Column("digest", LargeBinary),
    Column("receipt", Text),
    Index("accepted_envelopes_digest", "digest"),
)

# Outlives the account: an envelope of before its deletion must not bring it back.
envelope_sequences = Table(
    "envelope_sequences",
    metadata,
    Column("account", _id(), primary_key=True),
    Column("authority", _id(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("accepted_at", Double, nullable=False),
)

# Import keys of every age; the private halves of RSA keys lie elsewhere.
import_keys = Table(
    "import_keys",
    metadata,
    Column("kid", _id(43), primary_key=True),
    Column("state", String(8), nullable=False),
    # The public half as a JWK.
    Column("public", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    # When a retiring key stops to open; null for the others.
    Column("until", Double, nullable=True),
    Column("mac", LargeBinary, nullable=False),
)

# Private keys that rest in the store, under the storage key: for receipts, and for
# the post-quantum suite.
service_keys = Table(
    "service_keys",
    metadata,
    Column("kid", _id(43), primary_key=True),
    Column("use", String(8), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("made_at", Double, nullable=False),
)

# What an authority knows of its subscribers.

subscribers = Table(
    "subscribers",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double, nullable=True),
)

enrolment_tickets = Table(
    "enrolment_tickets",
    metadata,
    # SHA-256 of the ticket.
    Column("digest", LargeBinary, primary_key=True),
    Column("subscriber", _id(64), nullable=False),
    Column("account", _id(), nullable=False),
    # Of the seed that will be made: `totp.Parameters.canonical`, and what apps show.
    Column("parameters", String(32), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    # The key that took it, and what was answered; null while it is unused.
    Column("kid", _id(43), nullable=True),
    Column("answer", Text, nullable=True),
    # The form that its envelope will have: "v1" or "pq".
    Column("suite", String(8), nullable=False, server_default="v1"),
)

issued_envelopes = Table(
    "issued_envelopes",
    metadata,
    Column("jti", _id(64), primary_key=True),
    Column("subscriber", _id(64), nullable=False),
    Column("account", _id(), nullable=False),
    Column("kid", _id(43), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    # SHA-256 of the envelope's bytes, and the seed under the authority's storage key.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("sealed_seed", LargeBinary, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("issued_at", Double, nullable=False),
    # The service's Ed25519 key, and what it signed.
    Column("receipt_key", LargeBinary, nullable=True),
    Column("receipt", Text, nullable=True),
    Column("confirmed_at", Double, nullable=True),
    Column("suite", String(8), nullable=False, server_default="v1"),
    # The greatest sequence of an account is read for every envelope.
    Index("issued_envelopes_account", "account", "sequence"),
)
