"""SIGKILL under load: what was acknowledged is neither lost nor accepted again."""

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from arena import Load, Told, arena_on, assert_kept, assert_still_spent, kill_all, until
from repetitions import rounds
from server_fixture import serving

from otpseal.adapters.file_keys import RsaKeys

#: Accounts that are new in each round: more than the clients get through.
ACCOUNTS = 400

#: What is promised is 3 s; a machine may be slow, and do other things besides.
START_WITHIN_S = 30.0

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_kill_takes_nothing_back(
    tmp_path: Path,
    service_keys: RsaKeys,
    workers: int,
    record_property: Callable[[str, object], None],
) -> None:
    """At a random moment, again and again; the store is whole, and is served again."""
    path = tmp_path / "data" / "otpseal.db"
    path.parent.mkdir(mode=0o700)
    moments = random.Random(2026)
    told, starts, acknowledged = Told(), [], 0
    with arena_on(f"sqlite:///{path}", service_keys) as arena:
        token = arena.token()
        for number in [*rounds(2 if workers == 1 else 1, full=200), None]:
            began = time.monotonic()
            with serving(tmp_path, service_keys, workers=workers) as server:
                starts.append(time.monotonic() - began)
                assert_still_spent(server.port, token, told)
                if number is None:
                    break
                seeds = arena.enrol([f"r{number}/{n}" for n in range(ACCOUNTS)])
                load = Load([server.port], token, seeds)
                until(load.is_flowing)
                time.sleep(moments.uniform(0, 0.4))
                kill_all(server)
                told = load.stop()
            with closing(sqlite3.connect(path)) as db:
                assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
            assert_kept(arena, told)
            acknowledged += len(told.accepted) + sum(told.wrong.values())

    record_property("acknowledged", acknowledged)
    record_property("longest_start_s", max(starts))
    print(f"{acknowledged} acknowledged; the longest start took {max(starts):.2f} s")
    assert max(starts) < START_WITHIN_S
