"""Verifying beside others: an empty endpoint, bare RSA, django-otp, more workers.

Each part gives its rows; ours and the other take turns.
"""

import base64
import json
import secrets
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from fill import Filled, fill, name_of
from loads import (
    BOTH_CORES,
    HERE,
    SERVER_CORE,
    Load,
    Plan,
    Request,
    Row,
    Server,
    decisions,
    load,
    running,
    send_exactly,
)
from processes import memory_mb, wait_until_quiet

from otpseal.adapters.file_keys import load_public_key
from otpseal.envelope import seal
from otpseal.secret import Secret

CODE = "000000"
EMPTY = Request("/verify-2fa", json.dumps({"code": CODE}))
V1_BODY = '{"account":"%s","code":"000000"}'
MAX_RSS_MB = 120


@dataclass
class Part:
    """What one part of the benchmark found.

    Attributes:
        rows: of the table.
        facts: further lines, each a sentence.
        curves: name -> points of (x, rate, p50 in ms), for the plots.
    """

    rows: list[Row] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)


@dataclass
class Bench:
    """What all parts share.

    Attributes:
        plan: how long and how large.
        directory: for everything that is made.
    """

    plan: Plan
    directory: Path
    _filled: dict[int, Filled] = field(default_factory=dict)

    @property
    def key_file(self) -> Path:
        """The private key of all stores."""
        return self.directory / "student_private.pem"

    def filled(self, count: int) -> Filled:
        """Return the store of `count` accounts; made when first asked for."""
        if count not in self._filled:
            print(f"a store of {count} accounts", file=sys.stderr)
            place = self.directory / f"accounts-{count}"
            self._filled[count] = fill(place, count, key_file=self.key_file)
        return self._filled[count]

    def take_turns(
        self,
        row: Row,
        ours: tuple[Server, Request],
        theirs: tuple[Server, Request],
        *,
        connections: int = 32,
    ) -> None:
        """Load the two in turns, after a second of warm-up each."""
        for server, request in (ours, theirs):
            load(server, request, 1, self.directory, connections=connections)
        for pair in range(self.plan.pairs):
            print(f"{row.name}: {pair + 1} of {self.plan.pairs}", file=sys.stderr)
            wait_until_quiet(self.plan.patience_s)
            for (server, request), loads in ((ours, row.ours), (theirs, row.theirs)):
                seen = load(
                    server,
                    request,
                    self.plan.seconds,
                    self.directory,
                    connections=connections,
                )
                loads.append(seen)


def service(filled: Filled, data_dir: Path | None = None) -> tuple[object, ...]:
    """Return the command of the service with a patient throttle."""
    return HERE / "service_app.py", 0, data_dir or filled.data_dir


def verifying(filled: Filled, *, account: int | None = None) -> Request:
    """Return a v1 verify of one account, or of all at random; the code is wrong."""
    if account is None:
        return Request("/v1/verify", V1_BODY, filled.token, filled.count)
    return Request("/v1/verify", V1_BODY % name_of(account), filled.token)


def classic(bench: Bench) -> Part:
    """The exercise's three calls."""
    data_dir = bench.directory / "classic"
    verify = Row("POST /verify-2fa, durable / empty endpoint", 1.0)
    generate = Row("GET /generate-2fa / empty endpoint", 0.75)
    decrypt = Row("POST /decrypt-seed / bare RSA-4096 OAEP", 0.8)
    environment = {"OTPSEAL_KEY_FILE": str(bench.key_file)}
    with running(HERE / "service_app.py", 0, data_dir, environment=environment) as ours:
        public = load_public_key(bench.key_file.with_name("student_public.pem"))
        sealed = seal(Secret(secrets.token_bytes(32)), public)
        import_seed = Request("/decrypt-seed", json.dumps({"encrypted_seed": sealed}))
        send_exactly(ours, import_seed, 1)
        wrong = Request("/verify-2fa", json.dumps({"code": _wrong_code(ours)}))
        part = Part([verify, generate, decrypt])
        part.facts.append(_exact_account(ours, wrong, data_dir))
        with running(HERE / "empty_app.py", 0) as empty:
            bench.take_turns(verify, (ours, wrong), (empty, EMPTY))
            bench.take_turns(generate, (ours, Request("/generate-2fa")), (empty, EMPTY))
        for _ in range(bench.plan.pairs):
            seconds = bench.plan.seconds
            seen = load(ours, import_seed, seconds, bench.directory)
            decrypt.ours.append(seen)
            rate = _bare_decryptions(bench.key_file, sealed, seconds)
            decrypt.theirs.append(Load(rate, 1000 / rate, 0, 0, 1e6 / rate, 0, 0))
        part.facts.append(_memory(ours))
    return part


def v1(bench: Bench) -> Part:
    """`POST /v1/verify` with a token, beside the empty endpoint."""
    one = Row("POST /v1/verify, one account / empty endpoint", 1.0)
    spread = Row("POST /v1/verify, 1,000 accounts / empty endpoint", 1.0)
    filled = bench.filled(1000)
    part = Part([one, spread])
    with running(*service(filled), environment=filled.environment) as ours:
        wrong = verifying(filled)
        part.facts.append(_exact_account(ours, wrong, filled.data_dir))
        with running(HERE / "empty_app.py", 0) as empty:
            alone = verifying(filled, account=0)
            bench.take_turns(one, (ours, alone), (empty, EMPTY))
            bench.take_turns(spread, (ours, wrong), (empty, EMPTY))
        part.facts.append(_memory(ours))
    return part


def against_django(bench: Bench) -> Part:
    """The same beside a view with django-otp, both spread over 1,000 accounts."""
    row = Row("POST /v1/verify / django-otp's view, 1,000 accounts each", 10.0)
    filled = bench.filled(1000)
    place = bench.directory / "django"
    place.mkdir()
    script = HERE / "django_app.py"
    subprocess.run([sys.executable, script, "fill", place, "1000"], check=True)
    other = Request("/verify", V1_BODY, accounts=1000)
    with (
        running(*service(filled), environment=filled.environment) as ours,
        running(script, 0, place) as theirs,
    ):
        bench.take_turns(row, (ours, verifying(filled)), (theirs, other))
    return Part([row])


def workers(bench: Bench) -> Part:
    """`otpseal serve --workers 2` beside one; both on both cores, with wrk.

    With the throttle as it is: no account may be wrong five times, so all accounts
    of the large store are taken in turn.
    """
    row = Row("serve --workers 2 / serve, server and wrk on both cores")
    filled = bench.filled(bench.plan.accounts)
    at = 0
    for pair in range(bench.plan.pairs):
        print(f"workers: {pair + 1} of {bench.plan.pairs}", file=sys.stderr)
        wait_until_quiet(bench.plan.patience_s)
        for count, loads in ((2, row.ours), (1, row.theirs)):
            command = ["-m", "otpseal", "serve", "--port", 0, "--workers", count]
            command += ["--data-dir", filled.data_dir]
            with running(
                *command, core=BOTH_CORES, environment=filled.environment
            ) as server:
                for seconds in (1, bench.plan.seconds):
                    request = Request(
                        "/v1/verify", V1_BODY, filled.token, filled.count, at
                    )
                    seen = load(
                        server, request, seconds, bench.directory, core=BOTH_CORES
                    )
                    at = (at + seen.answers + 64) % filled.count
                loads.append(seen)
    shares = [100 * seen.client_share / 2 for seen in (*row.ours, *row.theirs)]
    fact = f"wrk itself used {min(shares):.0f} to {max(shares):.0f} % of the two cores."
    return Part([row], [fact])


def _exact_account(server: Server, request: Request, data_dir: Path) -> str:
    """Send exactly 5,000 wrong codes; every answer must be a committed row."""
    count = 5000
    before = decisions(data_dir)
    send_exactly(server, request, count)
    rows = decisions(data_dir) - before
    seen = rows["attempt.wrong"] + rows["attempt.accepted"]
    if seen != count:
        sys.exit(f"{count} answers but {dict(rows)} committed")
    return f"{count} answers of {request.path} counted: {seen} committed events."


def _memory(server: Server) -> str:
    used = memory_mb(server.pid)
    missed = "" if used < MAX_RSS_MB else ", **missed**"
    return f"Resident memory after the load: {used:.0f} MB (< {MAX_RSS_MB} MB{missed})."


def _wrong_code(server: Server) -> str:
    with urllib.request.urlopen(server.url + "/generate-2fa") as response:
        return CODE if json.load(response)["code"] != CODE else "999999"


def _bare_decryptions(key_file: Path, sealed: str, seconds: float) -> float:
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
    base64.b64decode(sealed, validate=True)
    command += [str(key_file), sealed, str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)
