"""TLS of the listener: who is let in, who is known, and who does no harm."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from certificates import Identity, issued, written
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from server_fixture import Reply, otpseal, parse_reply, read_all, serving

from otpseal.adapters.file_keys import RsaKeys
from otpseal.config import Settings
from otpseal.errors import ConfigurationError, KeyRefused, KeyUnavailable
from otpseal.http import server as server_module
from otpseal.http.handshakes import HANDSHAKE_DEADLINE_S
from otpseal.http.server import bind, configure
from otpseal.http.tls import server_context
from otpseal.http.wire import PEER_NAMES, Receive, Scope, Send, json_answer

#: Any name that does not resolve, and that clients ask for.
NAME = "otpseal.example"

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def tell_names(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with what it knows of its client."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    names = scope["extensions"].get(PEER_NAMES)
    known = {"scheme": scope["scheme"], "names": names}
    await json_answer(known).send(scope, send)


@dataclass(frozen=True)
class Tls:
    """A listener with TLS, and who issues what for it."""

    port: int
    directory: Path
    own: trustme.CA
    clients: trustme.CA

    def context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """Return how a client speaks that trusts the listener's authority."""
        context = ssl.create_default_context()
        self.own.configure_trust(context)
        if identity is not None:
            context.load_cert_chain(identity.cert_file, identity.key_file)
        return context

    def client(self, name: str, *names: x509.GeneralName, **how: object) -> Identity:
        """Issue a client certificate."""
        return issued(self.directory, self.clients, name, *names, **how)  # type: ignore[arg-type]

    def ask(self, context: ssl.SSLContext) -> Reply:
        """Send one request; raises `OSError` if the handshake is refused.

        In TLS 1.3 a client learns of its refusal only when it reads.
        """
        with self.connected(context) as connection:
            connection.sendall(REQUEST)
            received = b""
            while data := connection.recv(65536):
                received += data
        if not received:
            raise ConnectionError("closed without an answer")
        return parse_reply(received)

    def names(self, context: ssl.SSLContext) -> list[str] | None:
        """Return the names that the application is told."""
        told = self.ask(context).json
        assert told["scheme"] == "https"
        names: list[str] | None = told["names"]
        return names

    @contextlib.contextmanager
    def connected(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        """Connect and shake hands."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=NAME) as connection,
        ):
            yield connection

    def plain(self) -> socket.socket:
        """Connect without a handshake."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[int]:
    """Run `otpseal.http.server.run`'s server in a thread; gives its port.

    Without `run` itself, which sets signal handlers: only the main thread may.
    """
    listener = bind("127.0.0.1", 0)
    ready = threading.Event()
    config = configure(tell_names, server_context(settings))
    running = server_module._Server(config, ready.set, lambda: None)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        port = int(listener.getsockname()[1])
        assert ready.wait(30)
        yield port
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """A listener that asks for client certificates, for all tests of this module."""
    directory = tmp_path_factory.mktemp("tls")
    own, clients = trustme.CA(), trustme.CA()
    identity = written(directory, own.issue_cert(NAME), "server")
    clients.cert_pem.write_to_path(directory / "clients.pem")
    settings = Settings(
        tls_cert_file=identity.cert_file,
        tls_key_file=identity.key_file,
        tls_client_ca_file=directory / "clients.pem",
    )
    with listening(settings) as port:
        yield Tls(port, directory, own, clients)


# Who is let in


def test_the_client_verifies_the_server(tls: Tls) -> None:
    """With the right authority it is answered, with another it goes."""
    assert tls.ask(tls.context()).status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        tls.ask(ssl.create_default_context())


def test_no_certificate_is_no_name(tls: Tls) -> None:
    """Who shows none is let in (a token may follow), and is nobody."""
    assert tls.names(tls.context()) is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_names_reach_the_application(tls: Tls, version: ssl.TLSVersion) -> None:
    """DNS, URI and email names, in order, as typed but for the case of DNS names."""
    identity = tls.client(
        "named",
        x509.DNSName("Client.EXAMPLE"),
        x509.UniformResourceIdentifier("spiffe://example/Shop"),
        x509.RFC822Name("Shop@example"),
        x509.DirectoryName(x509.Name([])),
        x509.DNSName("*.shop.example"),
    )
    context = tls.context(identity)
    context.maximum_version = version

    assert [
        "DNS:client.example",
        "URI:spiffe://example/Shop",
        "email:Shop@example",
        "DNS:*.shop.example",
    ] == tls.names(context)


def test_a_common_name_is_no_name(tls: Tls) -> None:
    """A verified certificate without alternative names has none, whatever its CN."""
    assert [] == tls.names(tls.context(tls.client("client.example")))


def test_names_are_those_of_the_connection(tls: Tls) -> None:
    """Each request of a connection has them, and no other connection has."""
    context = tls.context(tls.client("kept", x509.DNSName("kept.example")))
    request = REQUEST.replace(b"Connection: close\r\n", b"")
    with tls.connected(context) as connection:
        told = []
        for _ in range(2):
            connection.sendall(request)
            told.append(parse_reply(connection.recv(65536)).json["names"])
            told.append(tls.names(tls.context()))

    assert [["DNS:kept.example"], None] * 2 == told


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_keeps_its_names(tls: Tls, version: ssl.TLSVersion) -> None:
    """Resuming is neither refused nor a way to lose or gain a name."""
    context = tls.context(tls.client("again", x509.DNSName("again.example")))
    context.maximum_version = version
    with tls.connected(context) as first:
        first.sendall(REQUEST)
        read_all(first)
        session = first.session
    with (
        tls.plain() as plain,
        context.wrap_socket(plain, server_hostname=NAME, session=session) as second,
    ):
        second.sendall(REQUEST)
        reply = parse_reply(read_all(second))
        resumed = second.session_reused

    assert resumed
    assert ["DNS:again.example"] == reply.json["names"]


def test_names_end_with_the_certificate(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection, or a session, that outlives the certificate has no names."""
    context = tls.context(
        tls.client("ends", x509.DNSName("ends.example"), days=(-1, 1))
    )
    request = REQUEST.replace(b"Connection: close\r\n", b"")
    later = time.time() + 2 * 86400
    with tls.connected(context) as connection:
        connection.sendall(request)
        before = parse_reply(connection.recv(65536)).json["names"]
        monkeypatch.setattr("otpseal.http.protocol.time.time", lambda: later)
        connection.sendall(request)
        after = parse_reply(connection.recv(65536)).json["names"]

    assert (["DNS:ends.example"], None) == (before, after)


def test_bad_client_certificates_are_refused(tls: Tls) -> None:
    """Of another authority, expired, not yet valid, for servers only: no answer.

    Nor do they become "no certificate": the handshake fails, on either version.
    """
    name = x509.DNSName("client.example")
    foreign = issued(tls.directory, trustme.CA(), "foreign", name)
    own = issued(tls.directory, tls.own, "own", name)  # the server's own authority
    bad = {
        "foreign": foreign,
        "own": own,
        "expired": tls.client("expired", name, days=(-2, -1)),
        "early": tls.client("early", name, days=(1, 2)),
        "server": tls.client(
            "for-servers", name, purpose=ExtendedKeyUsageOID.SERVER_AUTH
        ),
    }
    good = tls.client("good", name)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for kind, identity in bad.items():
            context = tls.context(identity)
            context.maximum_version = version
            with pytest.raises(OSError, match=r"alert|reset|EOF|closed"):
                pytest.fail(f"{kind} {version}: {tls.ask(context)}")
        context = tls.context(good)
        context.maximum_version = version
        assert ["DNS:client.example"] == tls.names(context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(tls: Tls, tmp_path: Path) -> None:
    """TLS 1.1 is not spoken, to a client that speaks nothing else.

    Not only because today's OpenSSL refuses its digests: it is the version that is
    refused, and the same two sides agree where the version is allowed.
    """
    old = tls.context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    identity = written(tmp_path, tls.own.issue_cert(NAME), "server")
    ours = server_context(settings_of(identity))
    assert ours is not None
    ours.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError):
        tls.ask(old)
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(ours, old)
    ours.minimum_version = ssl.TLSVersion.TLSv1
    assert shake_hands(ours, old) == "TLSv1.1"


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """Shake hands in memory; returns the version agreed on."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(down, up, server_hostname=NAME),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return sides[0].version()


def test_without_a_client_authority_no_certificate_is_asked_for(tmp_path: Path) -> None:
    """A certificate that nobody verified gives no name."""
    own = trustme.CA()
    server = written(tmp_path, own.issue_cert(NAME), "server")
    client = issued(tmp_path, own, "client", x509.DNSName("client.example"))
    settings = Settings(tls_cert_file=server.cert_file, tls_key_file=server.key_file)
    with listening(settings) as port:
        tls = Tls(port, tmp_path, own, own)

        assert tls.names(tls.context(client)) is None


# Who does no harm


def client_hello() -> bytes:
    """Return the first flight of a handshake."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    half = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    return outgoing.read()


def test_a_handshake_that_stalls_is_ended(tls: Tls) -> None:
    """Silent, cut short or never finished: closed at the deadline, others served.

    Each is still open when most of the deadline is over; what closes it is thus the
    deadline, not its bytes, and not asyncio's of a minute either.
    """
    hello = client_hello()
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        stalled = [stack.enter_context(tls.plain()) for _ in range(3)]
        stalled[1].sendall(hello[:100])
        stalled[2].sendall(hello)
        while time.monotonic() < began + HANDSHAKE_DEADLINE_S - 1.5:
            assert tls.ask(tls.context()).status == 200
            time.sleep(0.2)
        for connection in stalled:
            connection.settimeout(0)
        open_late = [is_open(connection) for connection in stalled]
        late = time.monotonic() - began
        for connection in stalled:
            connection.settimeout(30)
            read_all(connection)
        took = time.monotonic() - began

    if late < HANDSHAKE_DEADLINE_S:  # else this machine was too slow to look in time
        assert [True] * 3 == open_late
    assert took < 30


def test_the_oldest_handshake_gives_way(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When as many have begun as may: to the newest, and none who is silent counts."""
    monkeypatch.setattr("otpseal.http.handshakes.MAX_HANDSHAKES", 3)
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        silent = [stack.enter_context(tls.plain()) for _ in range(5)]
        stalled = []
        for _ in range(3):
            stalled.append(stack.enter_context(tls.plain()))
            stalled[-1].sendall(client_hello()[:100])
            time.sleep(0.1)

        assert tls.ask(tls.context()).status == 200
        stalled[0].settimeout(2)  # it was closed before the answer came
        with contextlib.suppress(ConnectionError):
            assert stalled[0].recv(1) == b""
        for connection in (*silent, *stalled):
            connection.settimeout(0)
        still_open = [is_open(connection) for connection in (*silent, *stalled[1:])]
        took = time.monotonic() - began

    if took < HANDSHAKE_DEADLINE_S:  # else the deadline may have ended them
        assert [True] * 7 == still_open


def is_open(connection: socket.socket) -> bool:
    """Tell whether the other side has not closed yet; reads what has arrived."""
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    return False


def test_a_request_that_stalls_is_ended(tls: Tls) -> None:
    """After the handshake the deadline for a request holds as without TLS."""
    with tls.connected(tls.context()) as connection:
        connection.sendall(REQUEST[:20])
        connection.settimeout(30)
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            assert connection.recv(65536) == b""


def test_plain_http_does_no_harm(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    """Neither it nor noise is answered in HTTP, logged, or keeps others waiting."""
    for noise in (REQUEST, b"\x00" * 1000, b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000):
        with tls.plain() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(noise)
                connection.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1" not in read_all(connection)
    assert tls.ask(tls.context()).status == 200
    assert "" == caplog.text


# Settings


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """A server's certificate and key."""
    return written(tmp_path, trustme.CA().issue_cert(NAME), "server")


def settings_of(identity: Identity, **others: Path) -> Settings:
    """Return settings with TLS."""
    return Settings(
        tls_cert_file=identity.cert_file,
        tls_key_file=identity.key_file,
        **others,  # type: ignore[arg-type]
    )


def test_half_a_configuration_is_refused(identity: Identity) -> None:
    """It never becomes plain HTTP."""
    for half in (
        Settings(tls_cert_file=identity.cert_file),
        Settings(tls_key_file=identity.key_file),
        Settings(tls_client_ca_file=identity.cert_file),
        Settings(tls_key_passphrase_file=identity.cert_file),
    ):
        with pytest.raises(ConfigurationError, match="TLS needs both"):
            server_context(half)
    assert server_context(Settings()) is None
    assert server_context(settings_of(identity)) is not None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_read_is_refused(identity: Identity, mode: int) -> None:
    """As with the import key, and with the same advice."""
    identity.key_file.chmod(mode)

    with pytest.raises(KeyUnavailable, match=r"open to group or others.*chmod 600"):
        server_context(settings_of(identity))


def test_what_is_missing_or_nonsense_is_named(
    identity: Identity, tmp_path: Path
) -> None:
    """The error names the setting or the file, and quotes nothing of its content."""
    missing = tmp_path / "missing"
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("cAnArY")
    nonsense.chmod(0o600)
    other = written(tmp_path, trustme.CA().issue_cert(NAME), "other")
    cases: list[tuple[Settings, type[Exception], str]] = [
        (
            settings_of(Identity(missing, identity.key_file)),
            ConfigurationError,
            "OTPSEAL_TLS_CERT_FILE: .*missing",
        ),
        (
            settings_of(Identity(identity.cert_file, missing)),
            KeyUnavailable,
            "TLS key .*missing",
        ),
        (
            settings_of(Identity(nonsense, identity.key_file)),
            ConfigurationError,
            "OTPSEAL_TLS_CERT_FILE",
        ),
        (
            settings_of(Identity(identity.cert_file, nonsense)),
            ConfigurationError,
            "OTPSEAL_TLS_KEY_FILE",
        ),
        (
            settings_of(Identity(identity.cert_file, other.key_file)),
            KeyRefused,
            "not that of the certificate",
        ),
        (
            settings_of(identity, tls_client_ca_file=missing),
            ConfigurationError,
            "OTPSEAL_TLS_CLIENT_CA_FILE",
        ),
        (
            settings_of(identity, tls_client_ca_file=nonsense),
            ConfigurationError,
            "OTPSEAL_TLS_CLIENT_CA_FILE",
        ),
    ]
    for settings, kind, text in cases:
        with pytest.raises(kind, match=text) as caught:
            server_context(settings)
        assert "cAnArY" not in str(caught.value)


def test_a_locked_key(identity: Identity, tmp_path: Path) -> None:
    """Opens with its passphrase; without or with a wrong one it is refused, unasked."""
    key = serialization.load_pem_private_key(identity.key_file.read_bytes(), None)
    identity.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    right, wrong, long = (tmp_path / name for name in ("right", "wrong", "long"))
    right.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    long.write_text("x" * 4000)

    assert server_context(settings_of(identity, tls_key_passphrase_file=right))
    with pytest.raises(KeyUnavailable, match="OTPSEAL_TLS_KEY_PASSPHRASE_FILE"):
        server_context(settings_of(identity))
    for file in (wrong, long):
        with pytest.raises(KeyUnavailable, match="does not open"):
            server_context(settings_of(identity, tls_key_passphrase_file=file))


# The program

HEALTHCHECK = Path(__file__).parents[1] / "container" / "bin" / "healthcheck"


def healthcheck(port: int, **settings: Path) -> "subprocess.CompletedProcess[str]":
    """Run the container's health check against a port."""
    given = {f"OTPSEAL_{name.upper()}": str(path) for name, path in settings.items()}
    return subprocess.run(
        [sys.executable, "-IS", HEALTHCHECK],
        env={"OTPSEAL_PORT": str(port), **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_program(tmp_path: Path, service_keys: RsaKeys, identity: Identity) -> None:
    """It says https, answers over TLS, and the container's health check finds it."""
    files: dict[str, Any] = {
        "tls_cert_file": identity.cert_file,
        "tls_key_file": identity.key_file,
    }
    with serving(tmp_path, service_keys, **files) as server:
        assert f"https://127.0.0.1:{server.port}" == server.url
        checked = healthcheck(server.port, tls_cert_file=identity.cert_file)
        blind = healthcheck(server.port)

    assert (0, '{"status":"ok"}\n') == (checked.returncode, checked.stdout)
    assert blind.returncode == 1

    with serving(tmp_path, service_keys) as server:
        assert healthcheck(server.port).returncode == 0


def test_the_program_refuses_before_it_makes_keys(
    tmp_path: Path, identity: Identity
) -> None:
    """A key open to others ends it with the exit code of a key; nothing is made."""
    identity.key_file.chmod(0o644)
    data = tmp_path / "data"

    done = otpseal(
        *("serve", "--port", "0"),
        data_dir=data,
        tls_cert_file=identity.cert_file,
        tls_key_file=identity.key_file,
    )

    assert done.returncode == 3
    assert "chmod 600" in done.stderr
    assert not data.exists()


def test_a_stop_does_not_wait_for_handshakes(
    tmp_path: Path, service_keys: RsaKeys, identity: Identity
) -> None:
    """SIGTERM with stalled handshakes: exit code 0, and nothing is logged."""
    files: dict[str, Any] = {
        "tls_cert_file": identity.cert_file,
        "tls_key_file": identity.key_file,
    }
    with (
        serving(tmp_path, service_keys, **files) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(5):
            address = ("127.0.0.1", server.port)
            stack.enter_context(socket.create_connection(address, timeout=5))
        assert healthcheck(server.port, tls_cert_file=identity.cert_file)
        assert 0 == server.stop()
        assert "" == server.log().replace(f"otpseal ready on {server.url}\n", "")
