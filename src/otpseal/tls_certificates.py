"""TLS certificates for a server on a network that has no CA: a CA of its own, and one.

The CA can vouch for the server's names and for nothing else (RFC 5280 section
4.2.1.10), so that whoever steals it has no more than the server's own key. P-256,
SHA-256. Pure but for keys and serial numbers.

Leaves out: where they lie (`otpseal.adapters.tls_files`), and the certificates that
say who signs seeds (`otpseal.certificates`).
"""

import datetime as dt
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from otpseal.certificates import (
    BACKDATED_S,
    authority_key_id,
    common_name,
    dated,
    key_usage,
)
from otpseal.errors import ConfigurationError

#: How long certificates last, in days: the server's is made anew at a start, and
#: Apple's clients take none of more than 825 days.
CA_DAYS: Final = 3650
SERVER_DAYS: Final = 825

#: What ends earlier than this from now is made anew, in days.
RENEWED_BEFORE_DAYS: Final = 60

MAX_HOSTS: Final = 16

_DAY_S: Final = 86_400
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ALL_ADDRESSES: Final = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key and its certificate."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    def lasts(self, now: float) -> bool:
        """Tell whether it is good for `RENEWED_BEFORE_DAYS` from now on."""
        starts = self.certificate.not_valid_before_utc.timestamp()
        ends = self.certificate.not_valid_after_utc.timestamp()
        return starts <= now and now + RENEWED_BEFORE_DAYS * _DAY_S < ends


def parse_hosts(texts: Sequence[str]) -> tuple[x509.GeneralName, ...]:
    """Return the names and addresses that a server is reached by, each once, sorted.

    Args:
        texts: 1 to 16 of: host names (RFC 1123, no wildcards, upper case is lowered),
            IPv4 and IPv6 addresses.

    Raises:
        ConfigurationError: none, too many, or one that is neither.
    """
    found = {_host(text.strip().lower()) for text in texts}
    if not 1 <= len(found) <= MAX_HOSTS:
        raise ConfigurationError(f"name 1 to {MAX_HOSTS} hosts")
    return tuple(sorted(found, key=lambda host: str(host.value)))


def make_ca(hosts: Sequence[x509.GeneralName], *, now: float) -> Pair:
    """Return a new CA that can vouch for `hosts` and what is below them alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The key's own name: clients that have two CA files of ours tell them apart.
    subject = common_name(f"otpseal TLS CA {secrets.token_hex(4)}")
    made = (
        dated(secrets.token_bytes, now - BACKDATED_S, now + CA_DAYS * _DAY_S)
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(_constraints(hosts), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Pair(key, made)


def make_server(ca: Pair, hosts: Sequence[x509.GeneralName], *, now: float) -> Pair:
    """Return a new key and certificate of a server, by a CA that `vouches_for` it."""
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(
        now + SERVER_DAYS * _DAY_S, ca.certificate.not_valid_after_utc.timestamp()
    )
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        dated(secrets.token_bytes, now - BACKDATED_S, ends)
        # With a blank: OpenSSL holds a common name that may be a host's against the
        # CA's constraints, and this one only says to people whose it is.
        .subject_name(common_name("otpseal authority"))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(authority_key_id(ca.certificate, ca.key), critical=False)
        .add_extension(key_id, critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    return Pair(key, made)


def vouches_for(ca: Pair, hosts: Sequence[x509.GeneralName]) -> bool:
    """Tell whether a CA was made for exactly these hosts."""
    try:
        found = ca.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.value == _constraints(hosts)


def is_for(
    server: Pair, ca: Pair, hosts: Sequence[x509.GeneralName], *, now: float
) -> bool:
    """Tell whether a server's certificate is by this CA, for these hosts, and lasts."""
    certificate = server.certificate
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
        certificate.verify_directly_issued_by(ca.certificate)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return list(names) == list(hosts) and server.lasts(now)


def ends_at(pair: Pair) -> dt.datetime:
    """Return when a certificate ends, in UTC."""
    return pair.certificate.not_valid_after_utc


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not _HOST.fullmatch(text):
        # Not shown: what was typed by mistake may be a secret.
        raise ConfigurationError(
            "a host is a name such as authority or otp.example, or an IP address; no"
            " port, no wildcard"
        )
    return x509.DNSName(text)


def _constraints(hosts: Sequence[x509.GeneralName]) -> x509.NameConstraints:
    permitted: list[x509.GeneralName] = [_subtree(host) for host in hosts]
    excluded: list[x509.GeneralName] = []
    # A kind of name of which none is permitted is free, if it is not excluded whole.
    if not any(isinstance(host, x509.IPAddress) for host in hosts):
        excluded += [x509.IPAddress(ipaddress.ip_network(a)) for a in _ALL_ADDRESSES]
    if not any(isinstance(host, x509.DNSName) for host in hosts):
        excluded.append(x509.DNSName(""))
    return x509.NameConstraints(permitted, excluded or None)


def _subtree(host: x509.GeneralName) -> x509.GeneralName:
    if isinstance(host, x509.IPAddress):
        return x509.IPAddress(ipaddress.ip_network(host.value))
    return host
