"""Exactly once, by force: sixteen processes submit one code at one instant.

Each has a store, connections and a service of its own, and only the database between
them. The negative control runs the same race over a store that reads, then writes.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from racers import PARTIES, racing
from repetitions import rounds
from test_committer import SEED, service_on

from otpseal import totp
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore

NOW = 1_800_000_000.0
ONCE = Counter({"ACCEPTED": 1, "REPLAYED": PARTIES - 1})

#: Far enough that no earlier code is in the window, in seconds.
APART_S = 90


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that has the account `default`."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path / 'otpseal.db'}"
    else:
        found = request.getfixturevalue("database").url()
    store = SqlStore(open_engine(found), reads_clock=False)
    service_on(store).import_seed(SEED, source="test")
    store.close()
    return found


def races(url: str, number: range, *, careless: bool) -> Iterator[Counter[str]]:
    """Race for a fresh step again and again; gives the outcomes of each round."""
    with racing(url=url, careless=careless) as racers:
        for count in number:
            now = NOW + APART_S * count
            order = {"now": now, "code": totp.generate(SEED, now).text}
            yield Counter(racers.race([order] * PARTIES))


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_of_sixteen_processes_one_is_accepted(url: str) -> None:
    """One is accepted and fifteen are replays, each round; also by one that comes late.

    The steps that the audit log has are the rounds' steps, each once.
    """
    number = rounds(12, full=500)

    found = list(races(url, number, careless=False))

    assert [ONCE] * len(number) == found
    store = SqlStore(open_engine(url), reads_clock=False)
    times = [NOW + APART_S * count for count in number]
    late = service_on(store, lambda: times[-1])
    code = totp.generate(SEED, times[-1]).text
    assert "REPLAYED" == late.verify(code).outcome.name
    with store.transaction() as tx:
        told = tx.newest_events(10**6, kind="attempt.accepted")
    store.close()
    steps = [f'{{"step":{int(now) // 30}}}' for now in times]
    assert steps == [row.detail for row in told]


@pytest.mark.torture
def test_the_race_finds_a_store_that_reads_and_then_writes(url: str) -> None:
    """Negative control: without the lock the same race accepts a code twice."""
    # To the first round that shows it: on a busy machine the parties come apart.
    found = races(url, rounds(50, full=500), careless=True)

    assert any(outcomes["ACCEPTED"] > 1 for outcomes in found)
