"""Callers by client certificate: from the handshake to the scopes, end to end."""

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from certificates import Identity, issued, written
from cryptography import x509
from server_fixture import JSON_TYPE, Server, key_file_in, otpseal, serving

from otpseal.adapters.file_keys import RsaKeys


@dataclass
class Site:
    """A service with TLS, its authority, and its command line."""

    server: Server
    authority: trustme.CA
    directory: Path
    settings: dict[str, object]

    def cli(self, *arguments: str) -> str:
        """Run a command on the service's store."""
        done = otpseal(*arguments, **self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def admit(self, name: str, *options: str) -> str:
        """Admit a certificate's name; returns the caller's id."""
        return self.cli(
            *("token", "create", "app", "--scope", "verify"),
            *("--certificate", name, *options),
        ).partition(":")[0]

    def client(self, name: str, *names: str) -> Identity:
        """Issue a client certificate for DNS names."""
        alternatives = [x509.DNSName(one) for one in names]
        return issued(self.directory, self.authority, name, *alternatives)

    def verify(
        self, identity: Identity | None, token: str | None = None
    ) -> tuple[int, dict[str, object]]:
        """Ask about a code of an account that there is not."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if identity is not None:
            context.load_cert_chain(identity.cert_file, identity.key_file)
        headers = dict(JSON_TYPE)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.server.port, context=context, timeout=20
        )
        body = json.dumps({"account": "shop/none", "code": "123456"})
        connection.request("POST", "/v1/verify", body, headers)
        reply = connection.getresponse()
        content = json.loads(reply.read())
        connection.close()
        return reply.status, content


WRONG = (200, {"valid": False, "reason": "wrong"})


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Site]:
    """One service for all."""
    directory = tmp_path_factory.mktemp("site")
    authority = trustme.CA()
    own = written(directory, authority.issue_cert("127.0.0.1"), "server")
    (directory / "ca.pem").write_bytes(authority.cert_pem.bytes())
    settings: dict[str, object] = {
        "tls_cert_file": own.cert_file,
        "tls_key_file": own.key_file,
        "tls_client_ca_file": directory / "ca.pem",
    }
    with serving(directory, service_keys, **settings) as server:
        given = {
            "data_dir": directory / "data",
            "key_file": key_file_in(directory, service_keys),
        }
        yield Site(server, authority, directory, given)


def test_a_certificate_is_a_caller(site: Site) -> None:
    """Admitted by its name it may do what its scopes say; revoked, nothing."""
    identity = site.client("a", "a.example")
    assert site.verify(identity)[0] == 401

    caller = site.admit("DNS:a.example")

    assert site.verify(identity) == WRONG
    site.cli("token", "revoke", caller)
    assert site.verify(identity)[0] == 401


def test_a_certificate_has_its_scopes_only(site: Site) -> None:
    """Another call needs another scope, as with a token."""
    identity = site.client("b", "b.example")
    site.cli(
        *("token", "create", "b", "--scope", "audit"),
        *("--certificate", "DNS:b.example"),
    )

    status, problem = site.verify(identity)

    assert (403, "forbidden") == (status, problem["code"])


def test_one_name_of_several_is_enough(site: Site) -> None:
    """A certificate with two names calls as the one that is admitted."""
    identity = site.client("c", "other.example", "c.example")
    site.admit("DNS:c.example")

    assert site.verify(identity) == WRONG


def test_a_revoked_name_does_not_shadow_another(site: Site) -> None:
    """Nor does it let anybody in by itself."""
    identity = site.client("d", "d1.example", "d2.example")
    site.cli("token", "revoke", site.admit("DNS:d1.example"))
    assert site.verify(identity)[0] == 401

    site.admit("DNS:d2.example")

    assert site.verify(identity) == WRONG


def test_a_token_goes_before_the_certificate(site: Site) -> None:
    """Who names himself twice is whom he says by the token, or nobody."""
    identity = site.client("e", "e.example")
    site.admit("DNS:e.example")
    token = json.loads(site.cli("token", "create", "e", "--scope", "verify", "--json"))[
        "token"
    ]

    assert site.verify(None, token) == WRONG
    assert site.verify(identity, token) == WRONG
    assert site.verify(identity, token[:-1] + "!")[0] == 401
    assert site.verify(None)[0] == 401


def test_a_name_is_not_a_token(site: Site) -> None:
    """What a certificate is known by is of no use as a bearer token."""
    site.admit("DNS:f.example")

    for token in ("DNS:f.example", "f.example"):
        assert site.verify(None, token)[0] == 401
