"""What the tests of the service over HTTP share: servers, requests, seeds.

`serving` runs the real program as a process of its own. `served_here` runs the same
application on a real socket in a thread of this process, where a clock can be turned
and a fault planted. Both are asked over real connections.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from conftest import TurnedClock

from otpseal import envelope, throttle, totp
from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.config import Settings
from otpseal.http.app import create_app
from otpseal.http.server import bind, configure
from otpseal.http.wire import App
from otpseal.ledger import AuditLog
from otpseal.ports import Clock, Store
from otpseal.secret import Secret
from otpseal.service import Service
from otpseal.storage_key import StorageKey
from otpseal.suite import Suite
from otpseal.wiring import OpenedService

#: The seed of CONTRACT's check values.
SEED = Secret(bytes.fromhex("00112233445566778899aabbccddeeff" * 2))
OTHER_SEED = Secret(bytes(range(100, 132)))

JSON_TYPE = {"Content-Type": "application/json"}
OTPSEAL = (sys.executable, "-m", "otpseal")

_READY = re.compile(r"^otpseal ready on (https?://\S+:(\d+))$", re.MULTILINE)
_READY_WITHIN_S = 30.0


def code_at(now: float, seed: Secret = SEED) -> str:
    """Return the right code at a time."""
    return totp.generate(seed, now).text


def wrong_code_at(now: float, seed: Secret = SEED) -> str:
    """Return a code of no step near that time."""
    near = {code_at(now + 30 * step, seed) for step in range(-2, 3)}
    return next(code for code in map("{:06}".format, range(10)) if code not in near)


def sealed_to(keys: RsaKeys, seed: Secret = SEED) -> str:
    """Return a seed sealed to a key pair."""
    return envelope.seal(seed, keys.public_key)


@dataclass(frozen=True)
class Reply:
    """What a server said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the one header of that lower-case name, or None."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, self.headers
        return found[0] if found else None

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The body, parsed."""
        return json.loads(self.body)


def exchange(port: int, raw: bytes, *, within_s: float = 20.0) -> bytes:
    """Send bytes, return all that comes back until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        with contextlib.suppress(ConnectionError):  # an answer may come before the end
            connection.sendall(raw)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Read until the end of the stream, a reset or the socket's timeout."""
    received = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while data := connection.recv(65536):
            received += data
    return received


def read_one(connection: socket.socket) -> bytes:
    """Read one answer of a connection that stays open."""
    received = b""
    while data := connection.recv(65536):
        received += data
        head, separator, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if separator and length and len(body) >= int(length[1]):
            break
    return received


def parse_reply(received: bytes) -> Reply:
    """Parse the only answer in a stream."""
    head, separator, body = received.partition(b"\r\n\r\n")
    assert separator, received
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = [(name.lower(), value) for name, value in pairs]
    return Reply(int(status.split(" ")[1]), headers, body)


def call(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
) -> Reply:
    """Send one request on a connection of its own, and read the answer to its end."""
    lines = [f"{method} {path} HTTP/1.1"]
    given = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not any(name.lower() == "host" for name, _ in given):
        given.append(("Host", f"127.0.0.1:{port}"))
    if body is not None:
        given.append(("Content-Length", str(len(body))))
    lines += [f"{name}: {value}" for name, value in (*given, ("Connection", "close"))]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return parse_reply(exchange(port, head + (body or b"")))


@dataclass(frozen=True)
class Api:
    """Speaks to a service as its clients do."""

    port: int

    def post(
        self,
        path: str,
        content: object,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """Post JSON; bytes go as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = headers.items() if isinstance(headers, Mapping) else headers
        return call(self.port, "POST", path, body, [*JSON_TYPE.items(), *given])

    def get(self, path: str, **headers: str) -> Reply:
        """Get a path."""
        return call(self.port, "GET", path, headers=headers)

    def verify(self, code: object) -> Reply:
        """Post a code."""
        return self.post("/verify-2fa", {"code": code})

    def bring(self, sealed: object) -> Reply:
        """Post a sealed seed."""
        return self.post("/decrypt-seed", {"encrypted_seed": sealed})


# In this process.


@dataclass(frozen=True)
class Here(Api):
    """A service in this process, its parts in reach."""

    opened: OpenedService
    clock: TurnedClock

    @property
    def service(self) -> Service:
        """The use cases behind the socket."""
        return self.opened.service

    def right(self) -> str:
        """Return the right code now."""
        return code_at(self.clock())

    def wrong(self) -> str:
        """Return a wrong code now."""
        return wrong_code_at(self.clock())

    def next_step(self) -> None:
        """Turn the clock to where no earlier code is in the window."""
        self.clock.turn(90)


@contextlib.contextmanager
def opened_over(
    directory: Path,
    keys: RsaKeys,
    clock: Clock,
    *,
    wrap: Callable[[Store], Store] = lambda store: store,
    code_log: Path | None = None,
    window: int = 1,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
    suites: Collection[Suite] = tuple(Suite),
) -> Iterator[OpenedService]:
    """Open a service over the store in `directory`, as wiring does, but faster.

    The private key is not read from a file (0.4 s); `wrap` may put a fault into the
    store.
    """
    store = SqlStore(open_engine(f"sqlite:///{directory / 'otpseal.db'}"))
    try:
        with store.transaction() as tx:
            record = tx.storage_key_record()
            if record is None:
                record = StorageKey.generate().wrap(keys)
                tx.set_storage_key_record(record)
        storage_key = StorageKey.unwrap(record, keys)
        used = wrap(store)
        log = None if code_log is None else FileCodeLog(code_log, max_bytes=1 << 20)
        yield OpenedService(
            store=used,
            directory=directory,
            keys=keys,
            storage_key=storage_key,
            audit=AuditLog(used, storage_key, clock),
            service=Service(
                used,
                keys=keys,
                storage_key=storage_key,
                clock=clock,
                window=window,
                policy=policy,
                suites=suites,
            ),
            code_log=log,
            minute_job=None,
        )
    finally:
        store.close()


@contextlib.contextmanager
def served_here(
    directory: Path,
    keys: RsaKeys,
    clock: TurnedClock,
    *,
    settings: Mapping[str, object] | None = None,
    **options: Any,  # noqa: ANN401 - of `opened_over`
) -> Iterator[Here]:
    """Serve the store in `directory` from a thread of this process."""
    chosen = Settings(data_dir=directory, **(settings or {}))  # type: ignore[arg-type]
    with (
        opened_over(
            directory, keys, clock, code_log=chosen.code_log, **options
        ) as opened,
        _in_a_thread(create_app(opened, chosen)) as port,
    ):
        yield Here(port, opened, clock)


@contextlib.contextmanager
def _in_a_thread(app: App) -> Iterator[int]:
    # `otpseal.http.server.run` without its signal handlers, which only the main
    # thread may set.
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(configure(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


# As a process.


@dataclass(frozen=True)
class Server(Api):
    """The real program, serving."""

    process: "subprocess.Popen[bytes]"
    url: str
    directory: Path
    key_file: Path

    def log(self) -> str:
        """Return all that the program wrote so far."""
        return _text(self.directory / "out") + _text(self.directory / "err")

    def stop(self) -> int:
        """Ask the program to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def key_file_in(directory: Path, keys: RsaKeys) -> Path:
    """Return the path of the keys in `directory`, written if need be."""
    path = directory / "keys" / "student_private.pem"
    if not path.exists():
        write_key_pair(keys._private_key, path)
    return path


def environment(**settings: object) -> dict[str, str]:
    """Return a process's environment with these OTPSEAL_ variables and no others."""
    kept = {name: value for name, value in os.environ.items() if "OTPSEAL" not in name}
    given = {f"OTPSEAL_{name.upper()}": str(value) for name, value in settings.items()}
    return {**kept, **given, "COLUMNS": "200", "NO_COLOR": "1"}


@contextlib.contextmanager
def serving(
    directory: Path,
    keys: RsaKeys,
    *,
    program: Sequence[str] = OTPSEAL,
    **settings: object,
) -> Iterator[Server]:
    """Run `otpseal serve` on a free port, over the store in `directory`."""
    key_file = key_file_in(directory, keys)
    settings = {
        "data_dir": directory / "data",
        "key_file": key_file,
        "port": 0,
        **settings,
    }
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        process = subprocess.Popen(
            [*program, "serve"],
            env=environment(**settings),
            stdout=out,
            stderr=err,
        )
    try:
        found = _wait_until_ready(process, directory)
        yield Server(int(found[2]), process, found[1], directory, key_file)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", directory: Path
) -> "re.Match[str]":
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := _READY.search(_text(directory / "out")):
            return found
        time.sleep(0.02)
    raise AssertionError(_text(directory / "err"))


def children(pid: int) -> set[int]:
    """Return a process's children, those ended but not reaped among them."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            text = status.read_text("ascii", "replace")
            if re.search(rf"^PPid:\t{pid}$", text, re.MULTILINE):
                found.add(int(status.parent.name))
    return found


def is_running(pid: int) -> bool:
    """Tell whether a process runs: neither gone nor ended and waiting to be reaped."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return False
    return re.search(r"^State:\tZ", text, re.MULTILINE) is None


def otpseal(
    *arguments: str, stdin: str | bytes = "", **settings: object
) -> "subprocess.CompletedProcess[str]":
    """Run one command of the real program to its end."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*OTPSEAL, *arguments],
        env=environment(**settings),
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def copy_store(source: Path, target: Path) -> None:
    """Copy a store at rest."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "otpseal.db", target / "otpseal.db")


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in threads that start together; returns their results in order."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - shown by the test that looks
            results[number] = error

    threads = [
        threading.Thread(target=run, args=[number]) for number in range(len(calls))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
