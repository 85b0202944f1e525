"""Which Host and Origin an open service answers: DNS rebinding and its variants."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TurnedClock
from server_fixture import Here, exchange, parse_reply, served_here

from otpseal.adapters.file_keys import RsaKeys
from otpseal.http.guard import MAX_KNOWN_HOSTS, HostGuard
from otpseal.http.wire import Receive, Scope, Send

BAD_HOST = b'{"error":"Host not allowed; see OTPSEAL_ALLOWED_HOSTS"}'
BAD_ORIGIN = b'{"error":"Origin not allowed"}'
NO_SEED = b'{"error":"Seed not decrypted yet"}'
TOKEN = "0123456789" * 4


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Here]:
    """An open service that also answers to two names; nothing changes its state."""
    directory = tmp_path_factory.mktemp("guard")
    settings = {"allowed_hosts": "otp.example.com, OTP2.example.com"}
    clock = TurnedClock(1_800_000_000.0)
    with served_here(directory, service_keys, clock, settings=settings) as here:
        yield here


def ask(
    here: Here, *headers: str | bytes, version: str = "1.1", target: str = ""
) -> tuple[int, bytes]:
    """Ask for a code with exactly these headers; PORT stands for the server's."""
    lines = [f"GET {target or '/generate-2fa'} HTTP/{version}".encode()]
    for line in headers:
        raw = line if isinstance(line, bytes) else line.encode("latin-1")
        lines.append(raw.replace(b"PORT", str(here.port).encode()))
    lines.append(b"Connection: close")
    reply = parse_reply(exchange(here.port, b"\r\n".join([*lines, b"", b""])))
    return reply.status, reply.body


OURS = [
    "127.0.0.1:PORT",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:1",  # through a forwarded port
    "10.1.2.3:8080",
    "[::1]:PORT",
    "[::1]",
    "[::ffff:127.0.0.1]:PORT",
    "[2001:db8::1]",
    "localhost:PORT",
    "LOCALHOST",
    "localhost.",
    "service:8080",  # a container's name
    "my_service",
    "otp.example.com",
    "otp.example.com:443",
    "OTP.Example.COM:8443",
    "otp.example.com.",
    "otp2.example.com",
    "2130706433",  # no dot: no public name
]

FOREIGN = [
    "evil.example.com",
    "evil.example.com:PORT",
    "EVIL.EXAMPLE.COM",
    "evil.example.com.",
    "localhost.evil.com",
    "localhost.evil.com:PORT",
    "127.0.0.1.nip.io",
    "127.0.0.1.nip.io:PORT",
    "a.localhost",
    "evil.com.localhost",
    "nototp.example.com",
    "x.otp.example.com",
    "otp.example.com.evil.com",
    "otp.example.com@evil.com",
    "evil.com@otp.example.com",
    "127.0.0.1:8080@evil",
    "127.0.0.1:8080@evil.com",
    "user:pass@127.0.0.1",
    "127.0.0.1/.evil.com",
    "localhost/evil",
    "localhost#evil.com",
    "localhost?evil.com",
    "localhost\\.evil.com",
    "localhost:8080:80",
    "localhost:http",
    "localhost:-1",
    "127.0.0.1, evil.com",
    "localhost,evil.com",
    "localhost evil.com",
    "localhost\tevil",
    "evil%2ecom",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.1",
    "256.1.1.1",
    "1.2.3",
    "::1",
    "::1:8080",
    "[::1",
    "::1]",
    "[::1]evil.com",
    "[::1].evil.com",
    "[evil.com]",
    "[evil]",
    "[]",
    "[127.0.0.1]x",
    "http://localhost",
    "",
    " ",
    ".",
    "..",
    ".localhost",
    "local..host",
    ":8080",
    "*",
    "\xe9",
    "\uff4c".encode().decode("latin-1") + "ocalhost",  # full-width l
]


@pytest.mark.parametrize("host", OURS)
def test_names_that_cannot_be_an_attackers_are_answered(
    server: Here, host: str
) -> None:
    """IP literals, localhost, single labels and the names that were allowed."""
    assert ask(server, f"Host: {host}") == (500, NO_SEED)


@pytest.mark.parametrize("host", FOREIGN)
def test_every_other_name_is_refused(server: Here, host: str) -> None:
    """403 with a static text: public names, and what parsers read differently."""
    assert ask(server, f"Host: {host}") == (403, BAD_HOST)


def test_an_ip_literal_with_a_dot_is_still_one(server: Here) -> None:
    """No public name: the root zone has no label of digits."""
    assert ask(server, "Host: 127.0.0.1.:PORT") == (500, NO_SEED)


def test_exactly_one_host(server: Here) -> None:
    """No Host in HTTP/1.1, or two, even if both are ours: 403."""
    assert ask(server) == (403, BAD_HOST)
    assert ask(server, "Host: localhost", "Host: localhost") == (403, BAD_HOST)
    assert ask(server, "Host: localhost", "Host: evil.com") == (403, BAD_HOST)
    assert ask(server, "Host: evil.com", "Host: localhost") == (403, BAD_HOST)


def test_a_plain_probe_of_http_1_0_needs_no_host(server: Here) -> None:
    """No browser speaks it; but a Host or an Origin that is there is looked at."""
    assert ask(server, version="1.0") == (500, NO_SEED)
    assert ask(server, "Host: localhost", version="1.0") == (500, NO_SEED)
    assert ask(server, "Host: evil.com", version="1.0") == (403, BAD_HOST)
    assert ask(server, "Origin: http://evil.com", version="1.0") == (403, BAD_HOST)


def test_the_request_target_does_not_stand_for_the_host(server: Here) -> None:
    """The absolute form is no way round the Host header."""
    target = "http://localhost/generate-2fa"

    assert ask(server, "Host: evil.com", target=target) == (403, BAD_HOST)
    assert ask(server, target=target) == (403, BAD_HOST)


def test_forwarding_headers_do_not_stand_for_the_host(server: Here) -> None:
    """Whoever can send them can write what he likes into them."""
    given = ["X-Forwarded-Host: localhost", "Forwarded: host=localhost"]

    assert ask(server, "Host: evil.com", *given) == (403, BAD_HOST)
    assert ask(server, "Host: localhost", "X-Forwarded-Host: evil.com") == (
        500,
        NO_SEED,
    )


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:PORT", "http://127.0.0.1:PORT"),
        ("localhost:PORT", "http://localhost:PORT"),
        ("LocalHost:PORT", "http://localhost:PORT"),
        ("localhost:PORT", "HTTP://LOCALHOST:PORT"),
        ("[::1]:PORT", "http://[::1]:PORT"),
        ("otp.example.com", "https://otp.example.com"),  # behind a TLS proxy
    ],
)
def test_our_own_origin(server: Here, host: str, origin: str) -> None:
    """A page of this very host and port may call."""
    assert ask(server, f"Host: {host}", f"Origin: {origin}") == (500, NO_SEED)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "https://evil.com",
        "null",
        "",
        "http://127.0.0.1",  # another port: another program of this machine
        "http://127.0.0.1:1",
        "http://localhost:PORT",
        "http://127.0.0.1:PORT.evil.com",
        "http://127.0.0.1:PORT@evil.com",
        "http://evil.com@127.0.0.1:PORT",
        "http://127.0.0.1:PORT/",
        "http://127.0.0.1:PORT http://evil.com",
        "http://127.0.0.1:PORT, http://evil.com",
        "127.0.0.1:PORT",
        "//127.0.0.1:PORT",
        "file://",
        "file://127.0.0.1:PORT",
        "ftp://127.0.0.1:PORT",
        "chrome-extension://127.0.0.1:PORT",
        "http:127.0.0.1:PORT",
        "http://",
        "*",
        "\xe9",
    ],
)
def test_foreign_origins_are_refused(server: Here, origin: str) -> None:
    """403 for other hosts, other ports, null and what is no origin."""
    headers = ("Host: 127.0.0.1:PORT", f"Origin: {origin}")

    assert ask(server, *headers) == (403, BAD_ORIGIN)


def test_two_origins_are_refused(server: Here) -> None:
    """In either order, and even if both are ours."""
    host, ours = "Host: 127.0.0.1:PORT", "Origin: http://127.0.0.1:PORT"

    assert ask(server, host, ours, "Origin: http://evil.com") == (403, BAD_ORIGIN)
    assert ask(server, host, "Origin: http://evil.com", ours) == (403, BAD_ORIGIN)
    assert ask(server, host, ours, ours) == (403, BAD_ORIGIN)


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json", "/unknown"])
def test_every_path_is_guarded(server: Here, path: str) -> None:
    """Not the classic calls alone."""
    assert ask(server, "Host: evil.com", target=path) == (403, BAD_HOST)


def test_a_post_is_refused_before_it_is_read(server: Here) -> None:
    """A rebound page's attempt is not counted, its seed not opened."""
    body = b'{"code":"123456"}'
    raw = (
        b"POST /verify-2fa HTTP/1.1\r\nHost: evil.com\r\nContent-Type: application/json"
        b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    )

    reply = parse_reply(exchange(server.port, raw))

    assert (reply.status, reply.body) == (403, BAD_HOST)


def test_no_preflight_is_granted(server: Here) -> None:
    """No answer ever carries an Access-Control header."""
    asked = (
        b"OPTIONS /verify-2fa HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1"
        b"\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
    )

    reply = parse_reply(exchange(server.port, asked))

    assert reply.status == 405
    assert not [name for name, _ in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.com", ""])
def test_with_a_token_nothing_is_guarded(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock, host: str
) -> None:
    """A web page does not know the token; the name is then the operator's business."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"classic_access": "token", "classic_token_file": token}
    with served_here(tmp_path, service_keys, clock, settings=settings) as here:
        headers = (f"Host: {host}", "Origin: http://evil.com")

        assert ask(here, *headers)[0] == 401
        assert ask(here, *headers, f"Authorization: Bearer {TOKEN}") == (500, NO_SEED)
        assert ask(here, *headers, target="/health")[0] == 200


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Answer nothing."""


def test_what_is_remembered_is_bounded() -> None:
    """A stranger cannot fill the memory with names that he makes up."""
    guard = HostGuard(_nothing)

    allowed = [guard._is_allowed(b"name%d" % number) for number in range(10_000)]

    assert all(allowed)
    assert len(guard._known) == MAX_KNOWN_HOSTS
    assert not guard._is_allowed(b"evil.com")
