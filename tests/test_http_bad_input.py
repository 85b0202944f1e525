"""Malformed requests over raw sockets: no echo, no 5xx but the contract's own.

The server is the real program, with a seed. Every request carries a canary; what the
server sends back and what it writes to its log are searched for it.
"""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_fixture import (
    Reply,
    Server,
    at_once,
    exchange,
    parse_reply,
    read_all,
    read_one,
    sealed_to,
    serving,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.http.protocol import MAX_HEAD_BYTES, MAX_PIPELINED, REQUEST_DEADLINE_S
from otpseal.http.wire import MAX_BODY_BYTES

CANARY = "cAnArY7f3a91"

#: All that may come back as a 5xx while the store works.
OURS = {(500, b'{"error":"Decryption failed"}')}

ERROR = re.compile(rb'\{"error":"[A-Za-z0-9_;,. /-]+"\}')
BEYOND_S = REQUEST_DEADLINE_S + 1.5


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Server]:
    """The real program, with a seed; its log is searched at the end."""
    directory = tmp_path_factory.mktemp("bad-input")
    with serving(directory, service_keys) as running:
        assert running.bring(sealed_to(service_keys)).status == 200
        yield running
        reply = running.get("/health")
        assert (reply.status, reply.body) == (200, b'{"status":"ok"}')
        assert running.stop() == 0
    log = running.log()
    assert CANARY.lower() not in log.lower()
    # One line: that it is ready. Strangers do not write to the log.
    assert len(log.splitlines()) == 1, log


def head(*lines: str | bytes, method: str = "POST", path: str = "/verify-2fa") -> bytes:
    """Return the head of a request, with a canary in it."""
    start = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-Canary: {CANARY}"]
    raw = [
        line if isinstance(line, bytes) else line.encode("latin-1")
        for line in (*start, *lines)
    ]
    return b"\r\n".join([*raw, b"", b""])


def request(body: bytes, *lines: str | bytes, path: str = "/verify-2fa") -> bytes:
    """Return a whole JSON request."""
    usual = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return head(*usual, "Connection: close", *lines, path=path) + body


def assert_says_nothing(received: bytes) -> None:
    """Check that nothing of the request came back, in any answer."""
    assert CANARY.lower().encode() not in received.lower()


def assert_refused(received: bytes, *statuses: int) -> Reply:
    """Check that the one answer is a static refusal of one of those statuses."""
    assert_says_nothing(received)
    reply = parse_reply(received)
    assert reply.status in statuses, received
    static = reply.body == b"Invalid HTTP request received."  # uvicorn's own
    assert static or ERROR.fullmatch(reply.body), reply.body
    return reply


DEEP = 4000
BODIES: dict[str, bytes] = {
    "no JSON": CANARY.encode(),
    "an open brace": b"{",
    "a trailing comma": b'{"code":"cAnArY7f3a91",}',
    "single quotes": b"{'code':'cAnArY7f3a91'}",
    "a comment": b'{"code":"cAnArY7f3a91"}//x',
    "two values": b'{"code":"cAnArY7f3a91"}{}',
    "a form": b"code=cAnArY7f3a91",
    "NaN": b'{"code":NaN,"x":"cAnArY7f3a91"}',
    "NaN elsewhere": b'{"code":"cAnArY7f3a91","x":NaN}',
    "Infinity": b'{"code":Infinity}',
    "-Infinity": b'{"code":-Infinity}',
    "1e999": b'{"code":1e999}',
    "-1e999 elsewhere": b'{"code":"cAnArY7f3a91","x":-1e999}',
    "a number of 5000 digits": b'{"code":' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"code":"\\ud800cAnArY7f3a91"}',
    "lone surrogate as a key": b'{"\\udc00":"cAnArY7f3a91"}',
    "surrogates as UTF-8": b'{"code":"\xed\xa0\x80cAnArY7f3a91"}',
    "deep lists": b'{"code":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"":' * 1500 + b"1" + b"}" * 1500,
    "unclosed lists": b"[" * 8000,
    "duplicate keys": b'{"code":"cAnArY7f3a91","code":"123456"}',
    "duplicate keys, escaped": b'{"code":"cAnArY7f3a91","x":1,"\\u0078":1}',
    "a string": b'"cAnArY7f3a91"',
    "a number": b"123456",
    "a list": b'["cAnArY7f3a91"]',
    "null": b"null",
    "true": b"true",
    "a code that is a number": b'{"code":123456}',
    "a code that is a list": b'{"code":["cAnArY7f3a91"]}',
    "a code that is an object": b'{"code":{"cAnArY7f3a91":1}}',
    "a code that is true": b'{"code":true}',
    "a code that is null": b'{"code":null,"x":"cAnArY7f3a91"}',
    "nothing": b"",
    "blanks": b" \t\r\n",
    "other white space": b"\x0b\x0c",
    "NUL": b"\0",
    "NUL inside": b'{"code":"cAnArY7f3a91\0"}',
    "a raw newline inside": b'{"code":"cAnArY7f3a91\n"}',
    "invalid UTF-8": b'{"code":"\xff\xfecAnArY7f3a91"}',
    "Latin-1": b'{"code":"cAnArY7f3a91\xe9"}',
    "overlong UTF-8": b'{"code":"\xc0\xafcAnArY7f3a91"}',
    "BOM": b'\xef\xbb\xbf{"code":"cAnArY7f3a91"}',
    "UTF-16": '{"code":"cAnArY7f3a91"}'.encode("utf-16"),
    "UTF-32": '{"code":"cAnArY7f3a91"}'.encode("utf-32-le"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "XML": b"<?xml version='1.0'?><code>cAnArY7f3a91</code>",
    "one byte too large": b" " * (MAX_BODY_BYTES + 1),
    "300 kB": b'{"code":"cAnArY7f3a91' + b"x" * 300_000 + b'"}',
}


#: What is not 400. A field that is read may hold any string: false, or no seed.
OTHERWISE = {
    "1e999": 422,
    "-1e999 elsewhere": 200,
    "lone surrogate": 200,
    "a string": 422,
    "a number": 422,
    "a list": 422,
    "null": 422,
    "true": 422,
    "a code that is a number": 422,
    "a code that is a list": 422,
    "a code that is an object": 422,
    "a code that is true": 422,
    "one byte too large": 413,
    "300 kB": 413,
}


@pytest.mark.parametrize("path", ["/verify-2fa", "/decrypt-seed"])
@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(server: Server, name: str, path: str) -> None:
    """4xx with a static text in the contract's form; a malformed code is just false."""
    field = b'"code"' if path == "/verify-2fa" else b'"encrypted_seed"'
    body = BODIES[name].replace(b'"code"', field)
    status = OTHERWISE.get(name, 400)

    received = exchange(server.port, request(body, path=path))

    assert_says_nothing(received)
    reply = parse_reply(received)
    if status == 200:
        opened = (200, b'{"valid":false}'), (500, b'{"error":"Decryption failed"}')
        assert (reply.status, reply.body) == opened[path == "/decrypt-seed"]
    else:
        assert reply.status == status
        assert ERROR.fullmatch(reply.body), reply.body
    assert reply.header("content-type") == "application/json"


def test_the_largest_body_is_read(server: Server) -> None:
    """8 KiB are accepted, a byte more is 413: the cap is where it is said to be."""
    fits = b'{"code":"x"}'.ljust(MAX_BODY_BYTES)

    assert parse_reply(exchange(server.port, request(fits))).status == 200
    over = exchange(server.port, request(fits + b" "))
    assert_refused(over, 413)


def _chunked(size: int, chunk: int = 65_536) -> bytes:
    part = (CANARY.encode() * (chunk // len(CANARY) + 1))[:chunk]
    whole = b"%x\r\n%s\r\n" % (chunk, part)
    return whole * (size // chunk) + b"0\r\n\r\n"


@pytest.mark.parametrize("how", ["chunked", "Content-Length"])
def test_26_megabytes(server: Server, how: str) -> None:
    """413 to a client that sends all of it, and the server's memory does not grow.

    As python-requests and curl send: the connection is kept open, and the answer read
    after the last byte.
    """
    size = 26_000_000
    before = memory_kb(server, "VmHWM")
    kind = "Content-Type: application/json"
    if how == "chunked":
        raw = head(kind, "Transfer-Encoding: chunked") + _chunked(size)
    else:
        raw = head(kind, f"Content-Length: {size}") + b"9" * size

    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
        connection.sendall(raw)
        received = read_all(connection)

    assert_refused(received, 413)
    assert memory_kb(server, "VmHWM") - before < 10_000


def test_an_answer_before_the_body_is_all_sent_is_not_lost(server: Server) -> None:
    """However the packets fall, a body of any size up to 3 MB gets its 413."""
    for size in (9_000, 33_000, 70_000, 260_000, 300_000, 1_000_000, 3_000_000):
        for _ in range(3):
            usual = ("Content-Type: application/json", f"Content-Length: {size}")
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            with connection:
                connection.sendall(head(*usual) + b"9" * size)
                received = read_one(connection)
            assert_refused(received, 413)


def test_a_connection_goes_on_after_a_refused_body(server: Server) -> None:
    """413, and the next request on the same connection is answered as ever."""
    usual = ("Content-Type: application/json", "Content-Length: 300000")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(head(*usual) + b"9" * 300_000)
            assert_refused(read_one(connection), 413)
            connection.sendall(head(method="GET", path="/generate-2fa"))
            assert parse_reply(read_one(connection)).status == 200


def memory_kb(server: Server, which: str = "VmRSS") -> int:
    """Return the server's resident memory, or by VmHWM the most it ever was."""
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    return int(re.findall(rf"{which}:\s+(\d+) kB", status)[0])


def test_refusals_leave_nothing_behind(server: Server) -> None:
    """4000 malformed bodies of 8 kB: none of them stays in memory."""
    body = b'{"code": ' + b"x" * 8000
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)

    def flood(times: int) -> None:
        for _ in range(times):
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/verify-2fa", body, headers)
            response = connection.getresponse()
            assert response.read() == b'{"error":"Malformed JSON"}'

    flood(200)
    before = memory_kb(server)
    flood(4000)
    connection.close()

    assert memory_kb(server) - before < 8_000


JSON = "Content-Type: application/json"
SMUGGLED = b"GET /generate-2fa HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROTOCOL: dict[str, bytes] = {
    "Content-Length and chunked": head(
        JSON, "Content-Length: 4", "Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\n"
    + SMUGGLED,
    "chunked and Content-Length": head(
        JSON, "Transfer-Encoding: chunked", "Content-Length: 4"
    )
    + b"0\r\n\r\n"
    + SMUGGLED,
    "two lengths": head(JSON, "Content-Length: 2", "Content-Length: 50")
    + b"{}"
    + SMUGGLED,
    "the same length twice": head(JSON, "Content-Length: 2", "Content-Length: 2")
    + b"{}",
    "a list of lengths": head(JSON, "Content-Length: 2, 2") + b"{}",
    "+2": head(JSON, "Content-Length: +2") + b"{}",
    "-2": head(JSON, "Content-Length: -2") + b"{}",
    "0x2": head(JSON, "Content-Length: 0x2") + b"{}",
    "2.0": head(JSON, "Content-Length: 2.0") + b"{}",
    "a length of 30 digits": head(JSON, "Content-Length: " + "9" * 30) + b"{}",
    "a blank before the colon": head(JSON, "Transfer-Encoding : chunked")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "xchunked": head(JSON, "Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunked, identity": head(JSON, "Transfer-Encoding: chunked, identity")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "identity": head(JSON, "Transfer-Encoding: identity") + b"{}",
    "a chunk of 0x2": head(JSON, "Transfer-Encoding: chunked")
    + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk of -1": head(JSON, "Transfer-Encoding: chunked")
    + b"-1\r\n{}\r\n0\r\n\r\n",
    "an endless chunk size": head(JSON, "Transfer-Encoding: chunked")
    + b"f" * 40
    + b"\r\n",
    "chunks with bare line feeds": head(JSON, "Transfer-Encoding: chunked")
    + b"2\n{}\n0\n\n"
    + SMUGGLED,
    "a chunk longer than it says": head(JSON, "Transfer-Encoding: chunked")
    + b"1\r\n{}\r\n0\r\n\r\n",
    "bare line feeds": b"POST /verify-2fa HTTP/1.1\nHost: localhost\n\n",
    "bare carriage returns": b"POST /verify-2fa HTTP/1.1\rHost: localhost\r\r",
    "a folded header": head("X-Folded: a", " cAnArY7f3a91"),
    "a header without a name": head(": cAnArY7f3a91"),
    "a header without a colon": head(CANARY),
    "a header with a blank in its name": head("X Y: cAnArY7f3a91"),
    "NUL in a header": head("X: \0cAnArY7f3a91"),
    "a carriage return in a header": head("X: \rcAnArY7f3a91"),
    "no HTTP": CANARY.encode() + b"\r\n\r\n",
    "HTTP/0.9": b"cAnArY7f3a91 /\r\n\r\n",
    "HTTP/9.9": b"GET /cAnArY7f3a91 HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTX": b"GET /cAnArY7f3a91 HTTX/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "NULs": bytes(64),
    "an unknown method": head(method=CANARY),
    "a lower-case method": head(method="get"),
    "CONNECT": head(method="CONNECT", path="localhost:443"),
    "no path": head(path=""),
    "a path without a slash": head(path=CANARY),
    "a raw byte in the path": head(path="/\xe9"),
    "another host in the target": head(path="http://cAnArY7f3a91"),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_bad_protocol(server: Server, name: str) -> None:
    """One 4xx with a static text, and the connection is closed: nothing is smuggled."""
    with socket.create_connection(
        ("127.0.0.1", server.port), timeout=0.8
    ) as connection:
        connection.sendall(PROTOCOL[name])
        received = read_all(connection)

    assert_refused(received, 400, 403, 404, 405)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b'"code"' not in received


HEADERS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "TRACE": (head("Connection: close", method="TRACE"), (405,)),
    "OPTIONS *": (head("Connection: close", method="OPTIONS", path="*"), (404,)),
    "PROPFIND": (head("Connection: close", method="PROPFIND"), (405,)),
    "an encoded path": (head("Connection: close", path="/%63AnArY7f3a91%00"), (404,)),
    "an escape that is none": (head("Connection: close", path="/%zz"), (404,)),
    "bytes that are no UTF-8": (head("Connection: close", path="/%ff%fe"), (404,)),
    "a path upwards": (head("Connection: close", path="/../cAnArY7f3a91"), (404,)),
    "a query": (head("Connection: close", path="/x?code=cAnArY7f3a91"), (404,)),
    "a line break in the path": (
        head("Connection: close", path="/%0d%0aERROR%20cAnArY7f3a91"),
        (404,),
    ),
    "a code in the query": (
        head(JSON, "Content-Length: 0", "Connection: close", path="/verify-2fa?code=1"),
        (400,),
    ),
    "a content encoding": (
        request(b"\x1f\x8b\x08\x00cAnArY7f3a91", "Content-Encoding: gzip"),
        (400,),
    ),
    "a charset": (
        head(
            "Content-Type: application/json; charset=utf-16",
            "Content-Length: 4",
            "Connection: close",
        )
        + "{}".encode("utf-16-le"),
        (400,),
    ),
    "another method by header": (
        request(b"{}", "X-HTTP-Method-Override: GET"),
        (400,),
    ),
    "no content type": (head("Content-Length: 2", "Connection: close") + b"{}", (415,)),
    "a canary as content type": (
        head(f"Content-Type: {CANARY}", "Content-Length: 0", "Connection: close"),
        (415,),
    ),
    "a body to GET": (
        head("Content-Length: 12", "Connection: close", method="GET") + CANARY.encode(),
        (405,),
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_odd_requests(server: Server, name: str) -> None:
    """Requests that are HTTP, but that no client of ours sends."""
    raw, statuses = HEADERS[name]

    assert_refused(exchange(server.port, raw), *statuses)


@pytest.mark.parametrize(
    "raw",
    [
        head("X: " + "a" * 2 * MAX_HEAD_BYTES, method="GET", path="/health"),
        head(*["X: a"] * MAX_HEAD_BYTES, method="GET", path="/health"),
        head(method="GET", path="/" + "a" * 2 * MAX_HEAD_BYTES),
        head("Cookie: " + "a" * 2_000_000, method="GET", path="/health"),
    ],
    ids=["one long header", "many headers", "a long path", "two megabytes"],
)
def test_huge_heads(server: Server, raw: bytes) -> None:
    """A head beyond its cap in several packets ends the connection; never a 5xx.

    In one packet it may be answered: what is read at once costs no more memory.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
        try:
            for start in range(0, len(raw), 16_384):
                connection.sendall(raw[start : start + 16_384])
                time.sleep(0.005)
        except ConnectionError:
            received = b""
        else:
            received = read_all(connection)

    assert_says_nothing(received)
    assert not received.startswith(b"HTTP/1.1 5")
    assert not received.startswith(b"HTTP/1.1 2")


# Clients that are slow, or never read


def silent_after(port: int, *parts: bytes, pause_s: float = 0.3) -> tuple[float, bytes]:
    """Send `parts`, then nothing; returns when the server closed, and its answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        began = time.monotonic()
        received = b""
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        received = read_all(connection)
        return time.monotonic() - began, received


def trickling(port: int, raw: bytes) -> tuple[float, bytes]:
    """Send a byte every 0.2 s for as long as the server takes them."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
        began = time.monotonic()
        for byte in raw:
            try:
                connection.sendall(bytes([byte]))
                if connection.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        return time.monotonic() - began, b""


HALF_SENT = head(JSON, "Content-Length: 100")
ASKED = head(method="GET", path="/generate-2fa")
ANSWERED_EARLY = head("Content-Length: 12", method="GET", path="/generate-2fa")


def test_slow_clients_are_cut_off(server: Server) -> None:
    """Within 6 s, however a client is slow; others are answered meanwhile.

    All at once, so that the test waits for the deadline once.
    """
    port = server.port
    clients: dict[str, Callable[[], tuple[float, bytes]]] = {
        "nothing at all": lambda: silent_after(port),
        "half a request line": lambda: silent_after(port, b"POST /ver"),
        "half a head": lambda: silent_after(port, HALF_SENT[:-10]),
        "a head without its body": lambda: silent_after(port, HALF_SENT),
        "half a body": lambda: silent_after(port, HALF_SENT + CANARY.encode()),
        "half a chunk": lambda: silent_after(
            port, head(JSON, "Transfer-Encoding: chunked") + b"fff\r\n{"
        ),
        "a trickled head": lambda: trickling(port, HALF_SENT),
        "a trickled body": lambda: trickling(port, HALF_SENT[-2:] + b"x" * 90),
        "trickled line ends": lambda: trickling(port, b"\r\n" * 100),
        "half a second request": lambda: silent_after(port, ASKED + HALF_SENT[:-10]),
        "half a second request, later": lambda: silent_after(port, ASKED, HALF_SENT),
        "answered before its body": lambda: silent_after(port, ANSWERED_EARLY),
        "a body after the answer": lambda: silent_after(
            port, ANSWERED_EARLY, CANARY.encode()
        ),
        "idle after an answer": lambda: silent_after(port, ASKED),
        "a line end after an answer": lambda: silent_after(port, ASKED, b"\r\n"),
        "an upgrade that is refused": lambda: silent_after(
            port, head("Connection: Upgrade", "Upgrade: websocket", method="GET"), b"x"
        ),
    }
    stop = threading.Event()
    delays: list[float] = []

    def others() -> None:
        while not stop.wait(0.1):
            began = time.monotonic()
            assert server.get("/generate-2fa").status == 200
            delays.append(time.monotonic() - began)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        ended = dict(zip(clients, at_once(*clients.values()), strict=True))
    finally:
        stop.set()
        thread.join()

    slow = {name: took for name, (took, _) in ended.items() if took > BEYOND_S}
    assert slow == {}
    for _, received in ended.values():
        assert_says_nothing(received)
    assert max(delays) < 2
    assert len(delays) > 20


def test_whoever_never_reads_is_cut_off(server: Server) -> None:
    """Answers that nobody takes do not hold a connection for ever."""
    one = head(method="GET", path="/openapi.json")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(2 * REQUEST_DEADLINE_S + 3)
    with connection:
        connection.connect(("127.0.0.1", server.port))
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            # Never ahead of its answer, but for those that the server cannot send.
            while time.monotonic() - began < 2 * REQUEST_DEADLINE_S:
                connection.sendall(one)
                time.sleep(0.005)
            pytest.fail("it is still served")


def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    """Pipelining, as HTTP/1.1 allows it, within reason."""
    ahead = [ASKED] * (MAX_PIPELINED // 2)
    last = head("Connection: close", method="GET", path="/unknown")

    received = exchange(server.port, b"".join([*ahead, last]))

    statuses = re.findall(rb"HTTP/1\.1 (\d+)", received)
    assert statuses == [b"200"] * len(ahead) + [b"404"]


def test_thousands_of_requests_sent_ahead_are_not(server: Server) -> None:
    """They cost no memory and no line in the log; the connection is closed."""
    before = memory_kb(server)
    bare = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        connection.sendall(bare * 6000)
        connections.append(connection)

    received = [read_all(connection) for connection in connections]

    for connection in connections:
        connection.close()
    assert all(data.count(b"HTTP/1.1 200") <= MAX_PIPELINED + 1 for data in received)
    assert memory_kb(server) - before < 15_000


def test_an_upgrade_is_not_taken_but_answered(server: Server) -> None:
    """As curl --http2 and Java's client ask: the answer is HTTP/1.1, twice over."""
    upgrade = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection:
        first = head(JSON, "Content-Length: 12", *upgrade) + b'{"code":"x"}'
        connection.sendall(first)
        answer = read_one(connection)
        connection.sendall(ASKED)
        second = read_one(connection)

    assert parse_reply(answer).body == b'{"valid":false}'
    assert parse_reply(second).status == 200


# Whatever comes

_BOUNDED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_TEXT = st.text(
    st.characters(codec=None, categories=None), max_size=40
)  # surrogates included
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
_PATHS = st.sampled_from(["/verify-2fa", "/decrypt-seed"])


def _post(server: Server, path: str, body: bytes) -> Reply:
    return parse_reply(exchange(server.port, request(body, path=path)))


def assert_contract(reply: Reply) -> None:
    """Check that an answer is one of the contract's while the store works."""
    said = reply.status, reply.body
    if reply.status == 200:
        assert reply.body in (b'{"valid":false}', b'{"valid":true}')
    elif said not in OURS:
        assert 400 <= reply.status < 500
        assert ERROR.fullmatch(reply.body), reply.body


@_BOUNDED
@given(path=_PATHS, body=st.binary(max_size=300))
def test_arbitrary_bytes(server: Server, path: str, body: bytes) -> None:
    """Any body gets an answer of the contract."""
    assert_contract(_post(server, path, body))


@_BOUNDED
@given(path=_PATHS, value=_JSON)
def test_arbitrary_json(server: Server, path: str, value: object) -> None:
    """Any JSON, and what Python calls JSON, gets an answer of the contract."""
    assert_contract(_post(server, path, json.dumps(value).encode()))


@_BOUNDED
@given(
    path=_PATHS,
    value=_JSON,
    others=st.dictionaries(_TEXT, _JSON, max_size=3),
    ascii_only=st.booleans(),
)
def test_arbitrary_fields(
    server: Server,
    path: str,
    value: object,
    others: dict[str, object],
    *,
    ascii_only: bool,
) -> None:
    """Any value of the field that is read, among any others."""
    field = "code" if path == "/verify-2fa" else "encrypted_seed"
    text = json.dumps({**others, field: value}, ensure_ascii=ascii_only)

    assert_contract(_post(server, path, text.encode("utf-8", "surrogatepass")))


@settings(_BOUNDED, max_examples=100)
@given(raw=st.binary(min_size=1, max_size=200))
def test_arbitrary_streams(server: Server, raw: bytes) -> None:
    """Any bytes in the place of a request: a 4xx or nothing, never a 5xx."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(raw + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)

    assert not received or received.startswith(b"HTTP/1.1 4")
