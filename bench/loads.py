"""Servers under load: what starts them, loads them, and what was seen.

A server runs on one core, the load generator (wrk, one thread) on another, unless a
part says otherwise. Figures are taken in pairs that take turns.
"""

import contextlib
import http.client
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from processes import Used

HERE = Path(__file__).parent
CONNECTIONS = 32
SERVER_CORE, CLIENT_CORE = "0", "1"
BOTH_CORES = "0,1"


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        pairs: how often ours and the other take turns.
        seconds: of load each time.
        accounts: in the large store.
        imported: accounts in the file that is imported.
        patience_s: how long a pair waits for other programs to be quiet.
    """

    pairs: int = 5
    seconds: float = 6.0
    accounts: int = 1_000_000
    imported: int = 100_000
    patience_s: float = 0.0


@dataclass
class Load:
    """What wrk saw: answers a second, percentiles in ms, answers in all.

    Attributes:
        cpu_us: of the server's processes, for each answer.
        client_share: of one core, what wrk itself used.
        others_share: of one core, what neither of the two used: other programs.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    answers: int
    cpu_us: float
    client_share: float
    others_share: float


@dataclass
class Row:
    """One line of the table: a load per turn, and the ratios of neighbours.

    Attributes:
        name: what is compared.
        target: the ratio that is wanted; None where a figure is only reported.
        most: whether the target is a most rather than a least.
        latency: whether the 50th percentile is compared rather than the rate.
        note: what else there is to say.
    """

    name: str
    target: float | None = None
    most: bool = False
    latency: bool = False
    note: str = ""
    ours: list[Load] = field(default_factory=list)
    theirs: list[Load] = field(default_factory=list)

    def figures(self, loads: list[Load]) -> list[float]:
        """What is compared, of each load."""
        return [load.p50_ms if self.latency else load.rate for load in loads]

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, pair by pair."""
        pairs = zip(self.figures(self.ours), self.figures(self.theirs), strict=True)
        return [a / b for a, b in pairs]


@dataclass(frozen=True)
class Server:
    """A running server: its URL, and the process that was started."""

    url: str
    pid: int


@contextlib.contextmanager
def running(
    *command: object,
    core: str = SERVER_CORE,
    environment: dict[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server, pinned, until the block ends; it says `ready on URL`."""
    process = subprocess.Popen(
        ["taskset", "-c", core, sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
    )
    # taskset has become the server: the process is the one that was started.
    try:
        for line in process.stdout or ():
            if found := re.search(r"ready on (\S+)", line):
                yield Server(found.group(1), process.pid)
                break
        else:
            sys.exit(f"{command[0]} did not start")
    finally:
        process.terminate()
        process.wait(15)


@dataclass(frozen=True)
class Request:
    """What wrk sends, again and again.

    Attributes:
        path: where to.
        body: JSON; None for GET. Where it has a `%s`, an account's name is put in.
        token: of a caller.
        accounts: how many accounts there are to put in; see `fill.name_of`.
        walk_from: take them in turn from this one on; None takes them at random.
    """

    path: str
    body: str | None = None
    token: str | None = None
    accounts: int = 0
    walk_from: int | None = None

    def lua(self, host: str) -> str:
        """Return the script that makes wrk send it and tell what it saw."""
        method = "GET" if self.body is None else "POST"
        lines = [
            f"{method} {self.path} HTTP/1.1",
            f"Host: {host}",
            "Content-Type: application/json",
        ]
        if self.token is not None:
            lines.append(f"Authorization: Bearer {self.token}")
        body = (self.body or "").replace("%s", "b%07d") if self.accounts else self.body
        # %07d: four characters of format make seven digits.
        length = len(body or "") + (3 if self.accounts else 0)
        lines += [f"Content-Length: {length}", "", body or ""]
        text = json.dumps("\r\n".join(lines)).replace("\\/", "/")
        if not self.accounts:
            choose = f"local text = {text}\nrequest = function() return text end\n"
        elif self.walk_from is None:
            choose = (
                f"local text, last = {text}, {self.accounts - 1}\n"
                "request = function()\n"
                "  return string.format(text, math.random(0, last))\nend\n"
                "init = function() math.randomseed(os.time()) end\n"
            )
        else:
            choose = (
                f"local text, next = {text}, {self.walk_from}\n"
                "request = function()\n"
                f"  next = (next + 1) % {self.accounts}\n"
                "  return string.format(text, next)\nend\n"
            )
        return (
            choose + "done = function(summary, latency, requests)\n"
            '  io.write(string.format("RESULT %d %d %d %f %f\\n", summary.requests,\n'
            "    summary.duration, summary.errors.status, latency:percentile(50),\n"
            "    latency:percentile(99)))\nend\n"
        )


def load(
    server: Server,
    request: Request,
    seconds: float,
    directory: Path,
    *,
    connections: int = CONNECTIONS,
    core: str = CLIENT_CORE,
) -> Load:
    """Load a server; exits if an answer was a refusal."""
    script = directory / "load.lua"
    script.write_text(request.lua(urlsplit(server.url).netloc))
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}"]
    command += [f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script)]
    before = Used.now(server.pid)
    done = subprocess.run(
        [*command, server.url + request.path],
        capture_output=True,
        text=True,
        check=True,
    )
    used = Used.now(server.pid).since(before)
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", done.stdout)
    if not found:
        sys.exit(f"wrk said:\n{done.stdout}")
    answers, microseconds, errors, p50, p99 = map(float, found.groups())
    if errors:
        sys.exit(f"{errors:.0f} answers of {request.path} were refusals")
    return Load(
        rate=answers / microseconds * 1e6,
        p50_ms=p50 / 1000,
        p99_ms=p99 / 1000,
        answers=int(answers),
        cpu_us=used.server / answers * 1e6,
        client_share=used.client / used.elapsed,
        others_share=max(0, used.all - used.server - used.client) / used.elapsed,
    )


def send_exactly(server: Server, request: Request, count: int) -> None:
    """Send `count` requests over `CONNECTIONS` connections; all must be answered 200.

    wrk stops in the middle of things; this is what answers are counted by.
    """
    headers = {"Content-Type": "application/json"}
    if request.token is not None:
        headers["Authorization"] = f"Bearer {request.token}"
    address = urlsplit(server.url)

    def some(number: int) -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        with contextlib.closing(connection):
            for i in range(number, count, CONNECTIONS):
                body = request.body or ""
                if request.accounts:
                    body = body.replace("%s", f"b{i % request.accounts:07d}")
                connection.request("POST", request.path, body, headers)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    sys.exit(f"{request.path} was answered {response.status}")

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(some, range(CONNECTIONS)))


def decisions(data_dir: Path) -> Counter[str]:
    """Return the committed audit rows by kind."""
    with contextlib.closing(sqlite3.connect(data_dir / "otpseal.db")) as database:
        rows = database.execute("SELECT kind, count(*) FROM audit_events GROUP BY kind")
        return Counter(dict(rows))
