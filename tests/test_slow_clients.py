"""Thousands of half-open connections: honest clients notice nothing."""

import contextlib
import os
import re
import resource
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from certificates import written
from repetitions import rounds
from server_fixture import OTPSEAL, Server, parse_reply, serving
from test_tls import NAME, client_hello

from otpseal.adapters.file_keys import RsaKeys
from otpseal.http.protocol import REQUEST_DEADLINE_S

#: What the service promises, however many never finish what they began, in KiB.
MAX_RSS_KB = 200 * 1024

#: A slow client is gone so long after it came, in seconds, on a machine with time.
GONE_WITHIN_S = REQUEST_DEADLINE_S + 1

#: Descriptors that a process needs besides its slow connections.
SPARE_DESCRIPTORS = 200

HALF_A_HEAD = b"POST /verify-2fa HTTP/1.1\r\nHost: localhost\r\nContent-Ty"
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def count() -> Iterator[int]:
    """How many slow clients; this process may open as many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(rounds(1_000, full=9_500))
    if 0 < hard < wanted + SPARE_DESCRIPTORS:
        pytest.skip(f"{wanted} connections need more descriptors than {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def status_kb(pid: int, name: str) -> int:
    """Return a number of /proc/<pid>/status, KiB."""
    text = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(re.findall(rf"{name}:\s+(\d+) kB", text)[0])


@dataclass
class Honest:
    """A client who asks again and again, each time by a new connection."""

    port: int
    context: ssl.SSLContext | None = None
    answered: int = 0
    worst_s: float = 0.0
    failures: list[object] = field(default_factory=list)

    def ask(self) -> None:
        """Ask once, and note what came of it."""
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 30) as plain:
                status = parse_reply(self._exchange(plain)).status
        except (OSError, AssertionError) as error:
            self.failures.append(repr(error))
            return
        self.answered += 1
        if status != 200:
            self.failures.append(status)
        self.worst_s = max(self.worst_s, time.monotonic() - began)

    def _exchange(self, plain: socket.socket) -> bytes:
        context = self.context
        with (
            contextlib.nullcontext(plain)
            if context is None
            else context.wrap_socket(plain, server_hostname=NAME)
        ) as connection:
            connection.sendall(REQUEST)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask for as long as the block lasts."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.is_set():
                self.ask()
                ended.wait(0.02)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(120)


@dataclass
class Slow:
    """What became of the slow clients; all times in seconds.

    Attributes:
        lives: how long each was connected.
        lag_s: the longest that this process itself came too late to look.
    """

    lives: list[float] = field(default_factory=list)
    lag_s: float = 0.0


def come_and_wait(
    port: int, count: int, first_bytes: Callable[[int], bytes], watch: Callable[[], Any]
) -> Slow:
    """Open connections that send their first bytes and no more, until all are closed.

    Args:
        port: of the server.
        count: how many.
        first_bytes: of the connection of that number.
        watch: called all the while.
    """
    slow = Slow()
    opened: dict[socket.socket, float] = {}
    give_up = time.monotonic() + 300
    with selectors.DefaultSelector() as selector:
        number = 0
        looked = time.monotonic()
        while number < count or opened:
            assert time.monotonic() < give_up, f"{len(opened)} still open"
            for _ in range(min(50, count - number)):
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                with contextlib.suppress(ConnectionError):
                    connection.sendall(first_bytes(number))
                opened[connection] = time.monotonic()
                selector.register(connection, selectors.EVENT_READ)
                number += 1
            found = selector.select(0 if number < count else 0.05)
            now = time.monotonic()
            slow.lag_s = max(slow.lag_s, now - looked - 0.05)
            looked = now
            for key, _ in found:
                if is_closed(key.fileobj):  # type: ignore[arg-type]
                    selector.unregister(key.fileobj)
                    slow.lives.append(now - opened.pop(key.fileobj))  # type: ignore[arg-type]
                    key.fileobj.close()  # type: ignore[union-attr]
            watch()
    return slow


def is_closed(connection: socket.socket) -> bool:
    """Read what has come; tell whether the server closed the connection."""
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


def assert_harmless(
    server: Server, honest: Honest, count: int, first_bytes: Callable[[int], bytes]
) -> None:
    """Let slow clients come, while an honest one asks, and see what became of all."""
    pid = server.process.pid
    with honest.asking():
        slow = come_and_wait(
            server.port, count, first_bytes, lambda: status_kb(pid, "VmRSS")
        )
    honest.ask()
    peak_kb = status_kb(pid, "VmHWM")
    # Whatever kept the honest client or this process waiting kept the slow ones too.
    allowed = GONE_WITHIN_S + 2 * (honest.worst_s + slow.lag_s)
    print(
        f"{count} slow clients: gone within {max(slow.lives):.2f} s (allowed"
        f" {allowed:.2f}), peak {peak_kb} kB; honest: {honest.answered} answers, the"
        f" slowest in {honest.worst_s:.2f} s; own lag {slow.lag_s:.2f} s"
    )

    assert [] == honest.failures
    assert honest.answered > 10
    assert count == len(slow.lives)
    assert max(slow.lives) < allowed
    assert peak_kb < MAX_RSS_KB
    assert server.process.poll() is None
    assert f"otpseal ready on {server.url}\n" == server.log()


@pytest.mark.torture
def test_half_a_request(tmp_path: Path, service_keys: RsaKeys, count: int) -> None:
    """Half a head, or nothing at all: 0 honest failures, all gone, under 200 MB."""
    with serving(tmp_path, service_keys) as server:
        assert_harmless(
            server,
            Honest(server.port),
            count,
            lambda number: HALF_A_HEAD if number % 8 else b"",
        )


@pytest.mark.torture
def test_half_a_handshake(tmp_path: Path, service_keys: RsaKeys, count: int) -> None:
    """Silent, a hello cut short, or one without a second flight: the same."""
    files, context = with_tls(tmp_path)
    hello = client_hello()
    kinds = (b"", hello[:100], hello, hello)
    with serving(tmp_path, service_keys, **files) as server:
        assert_harmless(
            server,
            Honest(server.port, context),
            count,
            lambda number: kinds[number % len(kinds)],
        )


def with_tls(directory: Path) -> tuple[dict[str, Any], ssl.SSLContext]:
    """Return settings with a new certificate, and how a client speaks who trusts it."""
    authority = trustme.CA()
    identity = written(directory, authority.issue_cert(NAME), "server")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = {"tls_cert_file": identity.cert_file, "tls_key_file": identity.key_file}
    return files, context


#: A program that may open no more files than its first argument says.
FEW_DESCRIPTORS = 'ulimit -S -n "$1"; ulimit -H -n "$1"; shift; exec "$@"'


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_descriptor_left(tmp_path: Path, service_keys: RsaKeys, scheme: str) -> None:
    """More connections than the hard limit has room for: it lives, and does not spin.

    Who comes then is not served. As soon as the others are gone, everyone is again,
    with no restart.
    """
    files, context = with_tls(tmp_path) if scheme == "https" else ({}, None)
    program = ["sh", "-c", FEW_DESCRIPTORS, "sh", "64", *OTPSEAL]
    with serving(tmp_path, service_keys, program=program, **files) as server:
        pid = server.process.pid
        honest = Honest(server.port, context)
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", server.port), timeout=20)
                )
            time.sleep(0.5)
            used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            began, spent = time.monotonic(), processor_s(pid)
            time.sleep(2)
            share = (processor_s(pid) - spent) / (time.monotonic() - began)
        deadline = time.monotonic() + 60
        while not honest.answered and time.monotonic() < deadline:
            honest.ask()
        honest.failures.clear()
        for _ in range(10):
            honest.ask()

        # Housekeeping may have had the last one for the instant in which it was missed.
        assert used in {63, 64}
        assert share < 0.5
        assert [] == honest.failures
        assert "Traceback" not in server.log()


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
