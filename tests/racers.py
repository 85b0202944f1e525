"""Sixteen processes that do one thing at one instant, again and again.

As a program it forks its racers before anything is open, takes a line of orders a
round, one for each racer, lets them meet at a barrier, and prints what became of
each. As a module it has `Racers`, which speaks to that program.
"""

import json
import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

#: How many race.
PARTIES = 16

#: Long enough for what must happen, in seconds.
_PATIENCE_S = 60.0


class Meeting(Protocol):
    """Where all racers wait for one another."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all are here."""


Run = Callable[[Any, Meeting], str]


class Racers:
    """Sixteen processes, waiting for orders.

    Args:
        pipe: to and from the program.
    """

    def __init__(self, pipe: "subprocess.Popen[str]") -> None:
        self._pipe = pipe

    def race(self, orders: Sequence[object]) -> list[str]:
        """Have each racer do its order at the same instant; returns what they say."""
        assert len(orders) == PARTIES
        assert self._pipe.stdin is not None
        assert self._pipe.stdout is not None
        print(json.dumps(orders), file=self._pipe.stdin, flush=True)
        said: list[str] = json.loads(self._pipe.stdout.readline())
        return said


@contextmanager
def racing(**job: object) -> Iterator[Racers]:
    """Start the racers; `job` is `url` and `careless` for a store, none for HTTP."""
    process = subprocess.Popen(
        [sys.executable, "-u", __file__, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Racers(process)
        except BaseException:
            process.kill()
            raise
        process.communicate(timeout=_PATIENCE_S)  # the end of its input is its own
    assert process.returncode == 0


# The program's side.


def _store_racer(job: dict[str, Any]) -> Run:
    """Return what decides about a code by a store and a service of its own."""
    from careless import ReadThenWrite
    from test_committer import service_on

    from otpseal.adapters.sql_engine import open_engine
    from otpseal.adapters.sql_store import SqlStore

    store = SqlStore(open_engine(job["url"]), reads_clock=False)
    used = ReadThenWrite(store) if job["careless"] else store
    now = 0.0
    service = service_on(used, lambda: now)

    def run(order: Any, meeting: Meeting) -> str:  # noqa: ANN401 - JSON
        nonlocal now
        now = order["now"]
        meeting.wait(_PATIENCE_S)
        return service.verify(order["code"]).outcome.name

    return run


def _http_racer(_job: dict[str, Any]) -> Run:
    """Return what sends a request over a connection that is there already."""

    def run(order: Any, meeting: Meeting) -> str:  # noqa: ANN401 - JSON
        address = "127.0.0.1", order["port"]
        with socket.create_connection(address, timeout=_PATIENCE_S) as connection:
            meeting.wait(_PATIENCE_S)
            connection.sendall(order["request"].encode())
            received = b""
            while data := connection.recv(65536):
                received += data
        return received.partition(b"\r\n\r\n")[2].decode()

    return run


def _race(make: Callable[[dict[str, Any]], Run], job: dict[str, Any]) -> None:
    context = multiprocessing.get_context("fork")  # nothing is open, no thread runs
    barrier = context.Barrier(PARTIES)

    def body(orders: Connection, others: list[Connection]) -> None:
        for inherited in others:
            inherited.close()  # so that the end of the program is everybody's
        run = make(job)
        while True:
            try:
                order = orders.recv()
            except EOFError:
                return
            try:
                said = run(order, barrier)
            except Exception as error:  # noqa: BLE001 - shown by the test that looks
                said = f"{type(error).__name__}: {error}"
            orders.send(said)

    pipes: list[Connection] = []
    for _ in range(PARTIES):
        ours, theirs = context.Pipe()
        arguments = (theirs, [*pipes, ours])
        process = context.Process(target=body, args=arguments, daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
    # At its end the racers, being daemons, are ended by multiprocessing.
    for line in sys.stdin:
        for pipe, order in zip(pipes, json.loads(line), strict=True):
            pipe.send(order)
        print(json.dumps([pipe.recv() for pipe in pipes]), flush=True)


def _main() -> None:
    job = json.loads(sys.argv[1])
    if "url" in job:
        # Imported once, before the fork.
        import otpseal.adapters.postgres
        import otpseal.adapters.sqlite
        import otpseal.service  # noqa: F401

        _race(_store_racer, job)
    else:
        _race(_http_racer, job)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _main()
