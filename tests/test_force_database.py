"""PostgreSQL goes away under load, and comes back; many servers start on nothing."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from arena import Load, arena_on, assert_kept, assert_still_spent, until, verify
from postgres_fixture import Cluster, Database
from repetitions import rounds
from server_fixture import Server, at_once, code_at, serving

from otpseal.adapters.file_keys import RsaKeys
from otpseal.secret import Secret

#: What is promised is 5 s; a machine may be slow, and do other things besides.
BACK_WITHIN_S = 60.0

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]


def is_accepting(server: Server, token: str, account: str, seed: Secret) -> bool:
    """Submit the right code; tell whether it was accepted."""
    reply = verify(server.port, token, account, code_at(time.time(), seed))
    return reply is not None and reply.status == 200 and reply.json["valid"] is True


def test_a_database_that_crashes_takes_nothing_back(
    durable_postgres: Cluster,
    tmp_path: Path,
    service_keys: RsaKeys,
    record_property: Callable[[str, object], None],
) -> None:
    """Stopped immediately under load, and started again: 0 acknowledged are lost.

    While it is gone every answer is 503 and nothing is accepted; afterwards the
    service goes on by itself.
    """
    moments, waits, acknowledged = random.Random(2026), [], 0
    with (
        durable_postgres.database() as database,
        arena_on(database.url(), service_keys) as arena,
        serving(tmp_path, service_keys, database_url=database.url()) as server,
    ):
        token = arena.token()
        for number in rounds(2, full=5):
            names = [f"r{number}/{n}" for n in range(600)]
            seeds = arena.enrol([*names, f"r{number}/waits"])
            waiting = seeds.popitem()
            load = Load([server.port], token, seeds, survives=True)
            until(load.is_flowing)
            time.sleep(moments.uniform(0, 1.0))

            durable_postgres.stop(immediate=True)
            code = code_at(time.time(), waiting[1])
            reply = verify(server.port, token, waiting[0], code)
            health = server.get("/health")
            durable_postgres.start()
            try_again = partial(is_accepting, server, token, *waiting)
            waits.append(until(try_again))

            told = load.stop()
            assert reply is not None
            assert (503, "store_unavailable") == (reply.status, reply.json["code"])
            assert 503 == health.status
            assert {503, None} >= set(told.others)
            assert_kept(arena, told)
            assert_still_spent(server.port, token, told)
            acknowledged += len(told.accepted) + sum(told.wrong.values())

    record_property("acknowledged", acknowledged)
    record_property("longest_wait_s", max(waits))
    print(f"{acknowledged} acknowledged; back after at most {max(waits):.2f} s")
    assert max(waits) < BACK_WITHIN_S


@contextmanager
def started(
    directory: Path, keys: RsaKeys, database: Database
) -> Iterator[list[Server]]:
    """Start eight servers at once that share a database and the path of a key."""
    key_file = directory / "made" / "student_private.pem"
    with ExitStack() as stack:

        def start(name: str) -> Server:
            (directory / name).mkdir(parents=True)
            server = serving(
                directory / name, keys, database_url=database.url(), key_file=key_file
            )
            return stack.enter_context(server)

        servers = at_once(*[partial(start, f"{number}") for number in range(8)])
        assert all(isinstance(server, Server) for server in servers), servers
        yield servers


def test_eight_servers_on_an_empty_database(
    postgres: Cluster, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """All start at once, with one place for the key: one schema, one key pair."""
    for number in rounds(1, full=50):
        directory = tmp_path / str(number)
        with (
            postgres.database(empty=True) as database,
            started(directory, service_keys, database) as servers,
        ):
            assert [200] * 8 == [server.get("/health").status for server in servers]
            names = sorted(path.name for path in (directory / "made").iterdir())
            assert ["student_private.pem", "student_public.pem"] == names
            assert [(1,)] == database.ask("SELECT count(*) FROM storage_keys")
            assert [(1,)] == database.ask("SELECT count(*) FROM alembic_version")
            created = "SELECT count(*) FROM audit_events WHERE kind = 'store.created'"
            assert [(1,)] == database.ask(created)
            logs = "".join(server.log() for server in servers)
            assert 1 == logs.count("INFO making an RSA-4096 key")
            assert "Traceback" not in logs
            assert [0] * 8 == at_once(*[server.stop for server in servers])
