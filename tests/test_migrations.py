"""A database of an older schema is brought up to date, and what it holds is read."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from otpseal.adapters import sql_engine
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.suite import Suite

_NOW = 1_800_000_000.0
_DIGEST, _SEED = bytes(range(32)), bytes(60)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    if request.param == "sqlite":
        yield open_engine(f"sqlite:///{tmp_path / 'otpseal.db'}")
    else:
        with request.getfixturevalue("postgres").database(empty=True) as database:
            yield open_engine(database.url())


def test_from_before_receipts_were_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0003: tickets and envelopes are v1, and a replay stays one, without a receipt."""
    with monkeypatch.context() as patch:
        patch.setattr(sql_engine, "SCHEMA_REVISION", "0003")
        old = SqlStore(engine, reads_clock=False)
    with old.transaction() as tx:
        tx.connection.execute(
            text("INSERT INTO accepted_envelopes VALUES ('hq', 'jti', :at)"),
            {"at": _NOW},
        )
        for digest, kid, answer in (
            (b"unused", None, None),
            (b"used", "k" * 43, "{}"),
        ):
            tx.connection.execute(
                text(
                    "INSERT INTO enrolment_tickets VALUES (:digest, 'shop', 'shop/a',"
                    " 'totp,SHA1,6,30,1', '', '', :at, :kid, :answer)"
                ),
                {"digest": digest, "at": _NOW, "kid": kid, "answer": answer},
            )
        tx.connection.execute(
            text(
                "INSERT INTO issued_envelopes VALUES ('jti', 'shop', 'shop/a', :kid, 7,"
                " :digest, :seed, :nonce, :at, NULL, NULL, NULL)"
            ),
            {
                "kid": "k" * 43,
                "digest": _DIGEST,
                "seed": _SEED,
                "nonce": bytes(16),
                "at": _NOW,
            },
        )

    store = SqlStore(engine, reads_clock=False)

    with closing(store), store.transaction() as tx:
        assert not tx.remember_envelope("hq", "jti", _NOW)
        assert tx.receipt_of("hq", "jti") is None
        for digest, kid in ((b"unused", None), (b"used", "k" * 43)):
            ticket = tx.ticket(digest)
            assert ticket is not None
            assert (ticket.kid, ticket.suite) == (kid, Suite.V1)
        (issued,) = tx.issued_envelopes()
        assert (issued.digest, issued.suite) == (_DIGEST, Suite.V1)
        assert issued == tx.issued_envelope(_DIGEST)
