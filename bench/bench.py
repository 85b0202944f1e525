"""`make bench`: what the service costs, as ratios within one run.

Every server runs as one process pinned to one core, the load generator (wrk) on
another; the service and the empty endpoint take turns, and the ratio is taken pair
by pair, so that a machine that changes its speed changes both. Prints the table and
writes it to docs/performance.md with `--write`.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from otpseal.adapters.file_keys import load_keys, load_public_key
from otpseal.envelope import seal
from otpseal.secret import Secret

HERE = Path(__file__).parent
CONNECTIONS = 32
SERVER_CORE, CLIENT_CORE = "0", "1"
TARGETS = {
    "POST /verify-2fa, durable / empty endpoint": 1.0,
    "GET /generate-2fa / empty endpoint": 0.75,
    "POST /decrypt-seed / bare RSA-4096 OAEP": 0.8,
}
MAX_RSS_MB = 120


@dataclass
class Load:
    """What wrk saw: answers a second, 99th percentile in ms, answers in all."""

    rate: float
    p99_ms: float
    answers: int


@dataclass
class Row:
    """One line of the table: a figure per pair, and their ratios."""

    name: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    ours_p99: list[float] = field(default_factory=list)
    theirs_p99: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, pair by pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


@contextlib.contextmanager
def server(script: str, *arguments: str) -> Iterator[tuple[str, int]]:
    """Run a server on one core; gives its URL and process id."""
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, sys.executable, HERE / script, "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        for line in process.stdout or ():
            if found := re.search(r"ready on (\S+)", line):
                yield found.group(1), process.pid
                break
        else:
            sys.exit(f"{script} did not start")
    finally:
        process.terminate()
        process.wait(15)


def wrk(url: str, seconds: float, body: str | None, directory: Path) -> Load:
    """Load `url` from one core over 32 connections."""
    lua = directory / "load.lua"
    method = "GET" if body is None else "POST"
    lua.write_text(
        f'wrk.method = "{method}"\n'
        + (f"wrk.body = {json.dumps(body)}\n" if body is not None else "")
        + 'wrk.headers["Content-Type"] = "application/json"\n'
        "done = function(summary, latency, requests)\n"
        '  io.write(string.format("RESULT %d %d %d %f\\n", summary.requests,\n'
        "    summary.duration, summary.errors.status, latency:percentile(99)))\n"
        "end\n"
    )
    command = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", f"-c{CONNECTIONS}"]
    command += [f"-d{seconds:g}s", "--timeout", "30s", "-s", str(lua), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+)", output)
    if not found:
        sys.exit(f"wrk said:\n{output}")
    answers, microseconds, errors, p99 = map(float, found.groups())
    if errors:
        sys.exit(f"{errors:.0f} answers of {url} were refusals:\n{output}")
    return Load(answers / microseconds * 1e6, p99 / 1000, int(answers))


def decisions(data_dir: Path) -> Counter[str]:
    """Return the committed audit rows by kind."""
    with contextlib.closing(sqlite3.connect(data_dir / "otpseal.db")) as database:
        rows = database.execute("SELECT kind, count(*) FROM audit_events GROUP BY kind")
        return Counter(dict(rows))


def rss_mb(pid: int) -> float:
    """Return a process's resident memory in MB (10**6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def bare_decryptions(data_dir: Path, sealed: str, seconds: float) -> float:
    """Return RSA-4096 OAEP decryptions a second of `cryptography` on one core."""
    code = (
        "import base64,sys,time\n"
        "from pathlib import Path\n"
        "from otpseal.adapters.file_keys import load_keys\n"
        "keys = load_keys(Path(sys.argv[1])); blob = base64.b64decode(sys.argv[2])\n"
        "n = 0; start = time.perf_counter(); end = start + float(sys.argv[3])\n"
        "while time.perf_counter() < end: keys.oaep_decrypt(blob); n += 1\n"
        "print(n / (time.perf_counter() - start))\n"
    )
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-c", code]
    command += [str(data_dir / "keys/student_private.pem"), sealed, str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)


def exact_account(url: str, data_dir: Path, directory: Path, count: int) -> None:
    """Send exactly `count` wrong codes; every answer must be a committed row."""
    body = directory / "wrong.json"
    body.write_text('{"code":"%s"}' % wrong_code(url))
    before = decisions(data_dir)
    command = ["ab", "-q", "-k", "-n", str(count), "-c", str(CONNECTIONS), "-p"]
    command += [str(body), "-T", "application/json", url + "/verify-2fa"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers = int(re.search(r"Complete requests:\s+(\d+)", output)[1])
    if "Non-2xx" in output:
        sys.exit("some answers were refusals:\n" + output)
    rows = decisions(data_dir) - before
    if rows["attempt.wrong"] != answers or answers != count:
        sys.exit(f"{answers} answers but {dict(rows)} committed")
    print(f"exact account: {answers} answers, {rows['attempt.wrong']} committed rows")


def wrong_code(url: str) -> str:
    """Return a code that stays wrong for the whole run, all but surely."""
    with urllib.request.urlopen(url + "/generate-2fa") as response:
        current = json.load(response)["code"]
    return "000000" if current != "000000" else "999999"


def run(pairs: int, seconds: float, directory: Path) -> tuple[list[Row], float]:
    """Measure; returns the rows and the service's resident memory in MB."""
    data_dir = directory / "data"
    rows = [Row(name) for name in TARGETS]
    verify, generate, decrypt = rows
    with server("service_app.py", str(data_dir)) as (ours, pid):
        public = load_public_key(data_dir / "keys/student_public.pem")
        sealed = seal(Secret(secrets.token_bytes(32)), public)
        sealed_body = json.dumps({"encrypted_seed": sealed})
        request = urllib.request.Request(
            ours + "/decrypt-seed",
            sealed_body.encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
        exact_account(ours, data_dir, directory, 5000)
        body = '{"code":"%s"}' % wrong_code(ours)
        before = decisions(data_dir)
        answers = 0
        with server("empty_app.py") as (empty, _):
            wrk(ours + "/verify-2fa", 1, body, directory)  # warm-up, both
            wrk(empty + "/verify-2fa", 1, body, directory)
            before = decisions(data_dir)
            for pair in range(pairs):
                print(f"pair {pair + 1} of {pairs}", file=sys.stderr)
                for row, path, content in (
                    (verify, "/verify-2fa", body),
                    (generate, "/generate-2fa", None),
                ):
                    mine = wrk(ours + path, seconds, content, directory)
                    other = wrk(empty + "/verify-2fa", seconds, body, directory)
                    row.ours.append(mine.rate)
                    row.theirs.append(other.rate)
                    row.ours_p99.append(mine.p99_ms)
                    row.theirs_p99.append(other.p99_ms)
                    if row is verify:
                        answers += mine.answers
        committed = decisions(data_dir) - before
        in_flight = pairs * CONNECTIONS
        if not 0 <= committed["attempt.wrong"] - answers <= in_flight:
            sys.exit(f"{answers} answers but {dict(committed)} committed")
        print(
            f"{answers} answers; committed: accepted"
            f" {committed['attempt.accepted']}, wrong {committed['attempt.wrong']},"
            f" throttled {committed['attempt.throttled']}"
            f" (up to {in_flight} were in flight when wrk stopped)"
        )
        for _ in range(pairs):
            mine = wrk(ours + "/decrypt-seed", seconds, sealed_body, directory)
            decrypt.ours.append(mine.rate)
            decrypt.ours_p99.append(mine.p99_ms)
            decrypt.theirs.append(bare_decryptions(data_dir, sealed, seconds))
        memory = rss_mb(pid)
    load_keys(data_dir / "keys/student_private.pem")
    return rows, memory


def table(rows: list[Row], memory: float) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| | ours/s | other/s | ratio: median (min-max) | target | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratios = row.ratios
        p99 = f"{statistics.median(row.ours_p99):.1f}"
        if row.theirs_p99:
            p99 += f", {statistics.median(row.theirs_p99):.1f}"
        lines.append(
            f"| {row.name} | {statistics.median(row.ours):.0f}"
            f" | {statistics.median(row.theirs):.0f}"
            f" | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            f" | {TARGETS[row.name]} | {p99} |"
        )
    lines.append(
        f"| resident memory after the load | {memory:.0f} MB | | | < 120 MB | |"
    )
    return "\n".join(lines)


def machine() -> str:
    """Return the machine in a line."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    return (
        f"{os.cpu_count()} x {model[1] if model else platform.machine()},"
        f" Linux {platform.release()}, Python {platform.python_version()}"
    )


def main() -> None:
    """Parse the options, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--write", action="store_true", help="docs/performance.md")
    options = parser.parse_args()
    for tool, package in (("wrk", "wrk"), ("ab", "apache2-utils")):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install {package}")
    with tempfile.TemporaryDirectory() as directory:
        rows, memory = run(options.pairs, options.seconds, Path(directory))
    printed = table(rows, memory)
    print(f"\n{machine()}\n{options.pairs} pairs of {options.seconds:g} s\n\n{printed}")
    if options.write:
        write(printed, options)


def write(printed: str, options: argparse.Namespace) -> None:
    """Replace the measured part of docs/performance.md."""
    path = HERE.parent / "docs" / "performance.md"
    head = path.read_text().split("<!-- measured -->")[0]
    path.write_text(
        f"{head}<!-- measured -->\n\nMeasured {time.strftime('%Y-%m-%d')} on"
        f" {machine()}: {options.pairs} pairs of {options.seconds:g} s.\n\n{printed}\n"
    )


if __name__ == "__main__":
    main()
