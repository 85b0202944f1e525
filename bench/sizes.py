"""What grows: accounts, connections, files to import; and PostgreSQL beside SQLite."""

import base64
import contextlib
import csv
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from against import Bench, Part, service, verifying
from fill import fill, name_of
from loads import CLIENT_CORE, HERE, Load, Row, load, running

SMALL = 1000
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def scale(bench: Bench) -> Part:
    """The median of verify with the large store beside that with the small one."""
    most = bench.plan.accounts
    row = Row(
        f"p50 of POST /v1/verify, {most:,} accounts / {SMALL:,}",
        1.3,
        most=True,
        latency=True,
    )
    large, small = bench.filled(most), bench.filled(SMALL)
    with (
        running(*service(large), environment=large.environment) as ours,
        running(*service(small), environment=small.environment) as theirs,
    ):
        bench.take_turns(row, (ours, verifying(large)), (theirs, verifying(small)))
    size = (large.data_dir / "otpseal.db").stat().st_size
    return Part([row], [f"The large store is a file of {size / 1e6:.0f} MB."])


def curves(bench: Bench) -> Part:
    """Rate and median against accounts and against connections; by turns, too."""
    counts = [n for n in (1000, 10_000, 100_000, 1_000_000) if n <= bench.plan.accounts]
    filled = [bench.filled(count) for count in counts]
    by_accounts: dict[int, list[Load]] = {count: [] for count in counts}
    by_connections: dict[int, list[Load]] = {count: [] for count in CONNECTIONS}
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(running(*service(one), environment=one.environment))
            for one in filled
        ]

        def seen(number: int, connections: int, seconds: float) -> Load:
            request = verifying(filled[number])
            place = bench.directory
            return load(
                servers[number], request, seconds, place, connections=connections
            )

        for number in range(len(counts)):
            seen(number, 32, 1)
        seconds = max(1, bench.plan.seconds // 2)
        for turn in range(bench.plan.pairs):
            print(f"curves: {turn + 1} of {bench.plan.pairs}", file=sys.stderr)
            for number, count in enumerate(counts):
                by_accounts[count].append(seen(number, 32, seconds))
            for count in CONNECTIONS:
                by_connections[count].append(seen(0, count, seconds))
    part = Part()
    part.curves["accounts"] = [_point(*item) for item in by_accounts.items()]
    part.curves["connections"] = [_point(*item) for item in by_connections.items()]
    loads = [one for some in (by_accounts, by_connections) for one in some.values()]
    others = statistics.median(load.others_share for some in loads for load in some)
    part.facts.append(f"Other programs used {others:.2f} of a core meanwhile.")
    return part


def _point(x: int, loads: list[Load]) -> tuple[int, float, float]:
    return (
        x,
        statistics.median(load.rate for load in loads),
        statistics.median(load.p50_ms for load in loads),
    )


def postgres(bench: Bench) -> Part:
    """PostgreSQL beside SQLite, 1,000 accounts each."""
    row = Row("POST /v1/verify, PostgreSQL / SQLite, 1,000 accounts")
    sqlite = bench.filled(SMALL)
    with _cluster() as url:
        if url is None:
            return Part(facts=["PostgreSQL is not installed: not measured."])
        place = bench.directory / "postgres"
        other = fill(place, SMALL, key_file=bench.key_file, database_url=url)
        with (
            running(*service(other), environment=other.environment) as ours,
            running(*service(sqlite), environment=sqlite.environment) as theirs,
        ):
            bench.take_turns(row, (ours, verifying(other)), (theirs, verifying(sqlite)))
    fact = (
        "PostgreSQL's own processes run on wrk's core, with `fsync` on; otpseal on the"
        " other, as always. They are not in its processor time."
    )
    return Part([row], [fact])


@contextlib.contextmanager
def _cluster() -> Iterator[str | None]:
    """Run a PostgreSQL of our own, that syncs, on the client's core."""
    sys.path.append(str(HERE.parent / "tests"))
    from postgres_fixture import running_cluster, why_not

    if why_not():
        yield None
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(CLIENT_CORE)})  # what it starts inherits it
    try:
        with running_cluster(durable=True) as cluster:
            os.sched_setaffinity(0, cores)
            with cluster.database() as database:
                yield database.url()
    finally:
        os.sched_setaffinity(0, cores)


def importing(bench: Bench) -> Part:
    """Import a file of accounts: time and peak memory of the whole command."""
    count = bench.plan.imported
    file = bench.directory / "accounts.csv"
    with file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["id", "secret"])
        for i in range(count):
            seed = base64.b32encode(secrets.token_bytes(20)).decode("ascii")
            rows.writerow([name_of(i), seed])
    filled = fill(bench.directory / "import", 0, key_file=bench.key_file)
    options = ["--data-dir", filled.data_dir]
    command = [sys.executable, "-m", "otpseal", "account", "import", file, *options]
    said = bench.directory / "import.txt"
    started = time.perf_counter()
    with said.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, **filled.environment},
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"the import failed: {said.read_text()[-500:]}")
    fact = (
        f"`otpseal account import` of a CSV file with {count:,} accounts took"
        f" {seconds:.1f} s and at most {usage.ru_maxrss * 1024 / 1e6:.0f} MB."
    )
    return Part(facts=[fact])
