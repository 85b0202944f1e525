"""The authority's client and TLS: whose certificate it accepts, what it sends bare."""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from authority_fixtures import (
    REPOSITORY,
    STUDENT,
    misbehaving,
    opened_by,
    pem_of,
    read_request,
    replying,
)
from certificates import Identity, issued, written
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from otpseal import envelope
from otpseal.adapters.authority_client import Patience, request_sealed_seed
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import AuthorityUnusable, ConfigurationError
from otpseal.secret import Secret

QUICK = Patience(connect_s=5.0, total_s=10.0, retry_after_s=0.05)
SEED = bytes(range(32))
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass
class Showing:
    """A server that shows a certificate.

    Attributes:
        port: where it listens.
        connections: how many came.
        requests: what was sent to it, in clear.
    """

    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}/"


@contextlib.contextmanager
def showing(context: ssl.SSLContext, keys: RsaKeys) -> Iterator[Showing]:
    """Run a server in a thread that answers well, if it is asked."""
    sealed = envelope.seal(Secret(SEED), keys.public_key)
    behave = replying({"status": "success", "encrypted_seed": sealed})
    listener = socket.create_server(("127.0.0.1", 0))
    server = Showing(listener.getsockname()[1])
    stopping = threading.Event()

    def serve() -> None:
        while True:
            bare, _ = listener.accept()
            if stopping.is_set():
                bare.close()
                return
            server.connections += 1
            with contextlib.suppress(OSError), bare:
                bare.settimeout(10)
                with context.wrap_socket(bare, server_side=True) as connection:
                    server.requests.append(read_request(connection))
                    behave(connection, b"")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server
    finally:
        stopping.set()
        socket.create_connection(("127.0.0.1", server.port)).close()
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def context_of(identity: Identity) -> ssl.SSLContext:
    """Return how a server speaks that has this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.cert_file, identity.key_file)
    return context


def ask(url: str, keys: RsaKeys, ca_file: Path | None, **how: bool) -> str:
    """Make the usual request."""
    return request_sealed_seed(
        url,
        student_id=STUDENT,
        github_repo_url=REPOSITORY,
        public_key=pem_of(keys),
        ca_file=ca_file,
        patience=QUICK,
        **how,
    )


@dataclass(frozen=True)
class Ca:
    """The CA whose certificate the authority's operator handed over."""

    own: trustme.CA
    file: Path


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    """Its certificate is in a file, for --ca-file."""
    made = Ca(trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem")
    made.own.cert_pem.write_to_path(made.file)
    return made


def _self_signed(directory: Path, _: trustme.CA) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([HERE]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([SERVER]), critical=False)
        .sign(key, hashes.SHA256())
    )
    identity = Identity(directory / "self.pem", directory / "self.key")
    identity.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    identity.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return identity


def _by_trustme(name: str) -> Callable[[Path, trustme.CA], Identity]:
    return lambda directory, ca: written(directory, ca.issue_cert(name), "shown")


def _made(
    *names: x509.GeneralName,
    purpose: x509.ObjectIdentifier = SERVER,
    days: tuple[int, int] = (-1, 1),
) -> Callable[[Path, trustme.CA], Identity]:
    return lambda directory, ca: issued(
        directory, ca, "127.0.0.1", *names, purpose=purpose, days=days
    )


def _by_another_ca(directory: Path, _: trustme.CA) -> Identity:
    return written(directory, trustme.CA().issue_cert("127.0.0.1"), "shown")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_by_trustme("127.0.0.1"), id="trustme's"),
        pytest.param(_made(HERE), id="for servers"),
    ],
)
def test_the_right_certificate(
    ca: Ca,
    tmp_path: Path,
    service_keys: RsaKeys,
    make: Callable[[Path, trustme.CA], Identity],
) -> None:
    """For the host, in time, for servers, by the CA of --ca-file: it is asked."""
    context = context_of(make(tmp_path, ca.own))
    with showing(context, service_keys) as server:
        sealed = ask(server.url, service_keys, ca.file)

    assert SEED == opened_by(service_keys, sealed)
    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(_by_trustme("authority.example"), "IP address", id="wrong name"),
        pytest.param(_by_trustme("127.0.0.2"), "IP address", id="wrong address"),
        pytest.param(_made(), "IP address", id="the name as common name only"),
        pytest.param(_made(HERE, days=(-2, -1)), "expired", id="expired"),
        pytest.param(_made(HERE, days=(1, 2)), "not yet valid", id="not yet valid"),
        pytest.param(_self_signed, "self-signed", id="self-signed"),
        pytest.param(_by_another_ca, "unable to get local issuer", id="another CA"),
        pytest.param(
            _made(HERE, purpose=ExtendedKeyUsageOID.CLIENT_AUTH), "purpose", id="EKU"
        ),
    ],
)
def test_the_wrong_certificate(
    ca: Ca,
    tmp_path: Path,
    service_keys: RsaKeys,
    make: Callable[[Path, trustme.CA], Identity],
    told: str,
) -> None:
    """It is refused at once, says why, and not a byte of the request was sent."""
    context = context_of(make(tmp_path, ca.own))
    with (
        showing(context, service_keys) as server,
        pytest.raises(AuthorityUnusable, match="is not accepted") as caught,
    ):
        ask(server.url, service_keys, ca.file)

    assert told in str(caught.value)
    assert "--ca-file" in str(caught.value)
    assert [] == server.requests
    assert 1 == server.connections


def test_without_a_ca_file_the_systems_cas_count(
    ca: Ca, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """A CA that nobody handed over is none."""
    identity = written(tmp_path, ca.own.issue_cert("127.0.0.1"), "shown")
    with (
        showing(context_of(identity), service_keys) as server,
        pytest.raises(AuthorityUnusable, match="is not accepted"),
    ):
        ask(server.url, service_keys, None)

    assert [] == server.requests


def test_insecure_http_is_no_word_about_certificates(
    ca: Ca, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """--insecure-http does not switch off what https is for."""
    identity = written(tmp_path, ca.own.issue_cert("127.0.0.1"), "shown")
    with (
        showing(context_of(identity), service_keys) as server,
        pytest.raises(AuthorityUnusable, match="is not accepted"),
    ):
        ask(server.url, service_keys, None, insecure_http=True)

    assert [] == server.requests


def test_old_tls_is_refused(ca: Ca, tmp_path: Path, service_keys: RsaKeys) -> None:
    """A server that speaks TLS 1.1 at most is not spoken to."""
    identity = written(tmp_path, ca.own.issue_cert("127.0.0.1"), "shown")
    context = context_of(identity)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    with (
        showing(context, service_keys) as server,
        pytest.raises(AuthorityUnusable, match="no connection"),
    ):
        ask(server.url, service_keys, ca.file)

    assert [] == server.requests


@pytest.mark.parametrize("content", [None, b"", b"no certificate", "key"])
def test_what_is_no_ca_file(
    tmp_path: Path, service_keys: RsaKeys, content: bytes | str | None
) -> None:
    """Missing, empty, something else: nothing was sent, and the file is named."""
    path = tmp_path / "ca.pem"
    if content is not None:
        content = pem_of(service_keys) if content == "key" else content
        path.write_bytes(content)  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError, match=f"--ca-file: {path}"):
        ask("https://127.0.0.1:9/", service_keys, path)


@pytest.mark.parametrize("url", ["http://authority.example/", "http://127.0.0.1/"])
def test_a_ca_file_over_plain_http(ca: Ca, service_keys: RsaKeys, url: str) -> None:
    """Who names a CA means TLS: a mistyped scheme is no way around it."""
    with pytest.raises(AuthorityUnusable, match="give the authority's address as http"):
        ask(url, service_keys, ca.file, insecure_http=True)


@pytest.mark.parametrize(
    "host", ["authority.example", "192.0.2.1", "localhost.example", "127.0.0.1.nip.io"]
)
def test_plain_http_beyond_loopback(
    service_keys: RsaKeys, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Nothing leaves this machine, not even to a proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with misbehaving(replying({})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(AuthorityUnusable, match="--insecure-http"):
            ask(f"http://{host}/", service_keys, None)

        assert [] == proxy.requests


SCRIPT = Path(__file__).parents[1] / "scripts" / "request_seed.py"


@pytest.mark.parametrize("program", [("-m", "otpseal", "seed", "request"), (SCRIPT,)])
@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_commands(
    ca: Ca,
    tmp_path: Path,
    service_keys: RsaKeys,
    program: tuple[object, ...],
    by: str,
) -> None:
    """Both take the CA by option and by variable; plain http needs its own word."""
    (tmp_path / "student_public.pem").write_bytes(pem_of(service_keys))
    identity = written(tmp_path, ca.own.issue_cert("127.0.0.1"), "shown")

    def run(url: str, *more: object, **variables: str) -> tuple[int, str]:
        ran = subprocess.run(
            [
                *(sys.executable, *map(str, program), "--url", url),
                *("--student-id", STUDENT, "--repo-url", REPOSITORY, "--json"),
                *map(str, more),
            ],
            cwd=tmp_path,
            env={**os.environ, **variables, "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        return ran.returncode, (ran.stdout + ran.stderr).decode()

    named = {"OTPSEAL_AUTHORITY_CA_FILE": str(ca.file)} if by == "variable" else {}
    option = ("--ca-file", ca.file) if by == "option" else ()
    with showing(context_of(identity), service_keys) as server:
        assert 5 == run(server.url)[0]
        done, text = run(server.url, *option, **named)

    assert (0, 684) == (done, json.loads(text)["characters"])
    sealed = (tmp_path / "encrypted_seed.txt").read_text()
    assert SEED == opened_by(service_keys, sealed)
    done, text = run("http://192.0.2.1/")
    assert 5 == done
    assert "--insecure-http" in text
