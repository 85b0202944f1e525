"""A server's TLS certificate and its CA: what they vouch for, and how they are kept."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from otpseal import certificates, tls_certificates
from otpseal.adapters import tls_files
from otpseal.errors import ConfigurationError, KeyRefused, KeyUnavailable
from otpseal.tls_certificates import make_ca, make_server, parse_hosts

NOW = 1_800_000_000.0
DAY = 86_400.0
HOSTS = parse_hosts(["authority", "127.0.0.1"])


def verified(tmp_path: Path, server: bytes, ca: bytes, *options: str) -> bool:
    """Tell whether openssl takes a server's certificate."""
    for name, content in (("server.pem", server), ("ca.pem", ca)):
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [
            *("openssl", "verify", "-purpose", "sslserver", "-x509_strict"),
            *("-attime", str(int(NOW)), "-CAfile", tmp_path / "ca.pem", *options),
            tmp_path / "server.pem",
        ],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize(
    ("hosts", "right", "wrong"),
    [
        ("authority", "-verify_hostname authority", "-verify_hostname service"),
        ("otp.example", "-verify_hostname otp.example", "-verify_ip 127.0.0.1"),
        ("10.0.0.7", "-verify_ip 10.0.0.7", "-verify_ip 10.0.0.8"),
        ("::1", "-verify_ip ::1", "-verify_hostname localhost"),
        ("a.example 10.0.0.7", "-verify_ip 10.0.0.7", "-verify_hostname b.example"),
    ],
)
def test_openssl_takes_it_for_its_hosts_alone(
    tmp_path: Path, hosts: str, right: str, wrong: str
) -> None:
    """Another program agrees about names, purpose, chain and constraints."""
    names = parse_hosts(hosts.split())
    ca = make_ca(names, now=NOW)
    server = certificates.pem(make_server(ca, names, now=NOW).certificate)

    assert verified(tmp_path, server, certificates.pem(ca.certificate), *right.split())
    assert not verified(
        tmp_path, server, certificates.pem(ca.certificate), *wrong.split()
    )


@pytest.mark.parametrize("hosts", ["service", "10.0.0.8", "authority.evil.example"])
def test_a_stolen_ca_vouches_for_nobody_else(tmp_path: Path, hosts: str) -> None:
    """What a thief makes with the CA's key for other hosts, openssl refuses."""
    ca = make_ca(parse_hosts(["authority"]), now=NOW)
    forged = make_server(ca, parse_hosts([hosts]), now=NOW)

    assert not verified(
        tmp_path,
        certificates.pem(forged.certificate),
        certificates.pem(ca.certificate),
    )


@given(st.lists(st.sampled_from(["a", "B.example", "::1", "10.0.0.1", "b.example"])))
def test_hosts_are_each_there_once(texts: list[str]) -> None:
    """Neither order nor case makes another certificate, nor do repetitions."""
    expected = sorted({text.lower() for text in texts})

    if not texts:
        with pytest.raises(ConfigurationError):
            parse_hosts(texts)
    else:
        assert [str(host.value) for host in parse_hosts(texts)] == expected


@pytest.mark.parametrize(
    "text",
    ["", "*.example", "a:8081", "https://a", "-a", "a-", "a..b", "a_b", "x" * 64, "ü"],
)
def test_what_is_no_host_is_refused_and_not_shown(text: str) -> None:
    """No wildcards, ports, URLs; a secret by mistake is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        parse_hosts([text])

    assert "authority or otp.example" in str(caught.value)


def test_what_is_good_is_kept(tmp_path: Path) -> None:
    """A second run changes no file; private ones are for their owner alone."""
    first = tls_files.keep(tmp_path / "tls", tmp_path / "ca.pem", HOSTS, now=NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}

    second = tls_files.keep(tmp_path / "tls", tmp_path / "ca.pem", HOSTS, now=NOW + DAY)

    assert (first.new_ca, first.new_server) == (True, True)
    assert (second.new_ca, second.new_server) == (False, False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == before
    modes = {path.name: path.stat().st_mode & 0o777 for path in before}
    assert modes == {"ca_private.pem": 0o600, "server.pem": 0o600, "ca.pem": 0o644}


def test_what_ends_soon_is_made_anew(tmp_path: Path) -> None:
    """The server's by the same CA, and clients notice nothing; the CA's at its end."""
    where = (tmp_path / "tls", tmp_path / "ca.pem", HOSTS)
    tls_files.keep(*where, now=NOW)
    ca = (tmp_path / "ca.pem").read_bytes()

    later = tls_files.keep(*where, now=NOW + (tls_certificates.SERVER_DAYS - 59) * DAY)
    assert (later.new_ca, later.new_server) == (False, True)
    assert (tmp_path / "ca.pem").read_bytes() == ca

    last = tls_files.keep(*where, now=NOW + (tls_certificates.CA_DAYS - 59) * DAY)
    assert (last.new_ca, last.new_server) == (True, True)
    assert (tmp_path / "ca.pem").read_bytes() != ca


def test_other_hosts_make_another_ca(tmp_path: Path) -> None:
    """The old CA cannot vouch for them."""
    where = (tmp_path / "tls", tmp_path / "ca.pem")
    tls_files.keep(*where, HOSTS, now=NOW)

    moved = tls_files.keep(*where, parse_hosts(["elsewhere.example"]), now=NOW)

    assert (moved.new_ca, moved.new_server) == (True, True)


@pytest.mark.parametrize("lost", ["ca_private.pem", "server.pem", "ca.pem"])
def test_a_crash_at_any_file_is_made_good(tmp_path: Path, lost: str) -> None:
    """Whichever file is missing, the next run leaves three that belong together."""
    where = (tmp_path, tmp_path / "ca.pem")
    tls_files.keep(*where, HOSTS, now=NOW)
    (tmp_path / lost).unlink()
    (tmp_path / f".{lost}.0123456789abcdef").write_bytes(b"half of ")
    (tmp_path / f".{lost}.swp").write_bytes(b"somebody's")

    kept = tls_files.keep(*where, HOSTS, now=NOW)

    shown = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    shown_server = x509.load_pem_x509_certificate(
        (tmp_path / "server.pem").read_bytes()
    )
    shown_server.verify_directly_issued_by(shown)
    assert kept.ca.certificate == shown
    assert kept.server.certificate == shown_server
    hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert hidden == [f".{lost}.swp"]


def test_somebody_elses_file_is_not_replaced(tmp_path: Path) -> None:
    """What is not ours is named, and stays."""
    for name in ("ca_private.pem", "server.pem"):
        path = tmp_path / name
        path.write_bytes(b"something else")
        path.chmod(0o600)

        with pytest.raises(KeyRefused, match=name):
            tls_files.keep(tmp_path, tmp_path / "ca.pem", HOSTS, now=NOW)

        assert path.read_bytes() == b"something else"
        path.unlink()


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    """As every private key."""
    tls_files.keep(tmp_path, tmp_path / "ca.pem", HOSTS, now=NOW)
    (tmp_path / "server.pem").chmod(0o644)

    with pytest.raises(KeyUnavailable, match="chmod 600"):
        tls_files.keep(tmp_path, tmp_path / "ca.pem", HOSTS, now=NOW)


def test_no_room_is_said(tmp_path: Path) -> None:
    """What cannot be written is named."""
    with pytest.raises(KeyUnavailable, match="cannot be written"):
        tls_files.keep(tmp_path, tmp_path / "none" / "ca.pem", HOSTS, now=NOW)


def test_the_command_and_python_agree(tmp_path: Path) -> None:
    """What the command writes a server shows, and a client that has the CA takes."""
    for expected in ("new", "kept"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "otpseal", "authority", "tls", str(tmp_path)),
                *("--host", "localhost"),
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ},
        )
        assert done.stdout.startswith(f"{expected}: certificate and key until ")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")

    ends = [(ssl.MemoryBIO(), ssl.MemoryBIO())]
    ((to_server, to_client),) = ends
    talking = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in talking:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue

    assert talking[0].getpeercert()["subjectAltName"] == (("DNS", "localhost"),)  # type: ignore[index]
