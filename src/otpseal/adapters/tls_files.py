"""A server's TLS certificate and the CA that vouches for it, in files.

Two private files, each a key and its certificate in one, so that either is replaced
whole: `ca_private.pem` and `server.pem`. What clients need is `ca.pem`, the CA's
certificate alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from otpseal import certificates, keypolicy, tls_certificates
from otpseal.adapters.private_files import held, read_private, replace_file
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.tls_certificates import Pair

CA_PRIVATE_NAME: Final = "ca_private.pem"
SERVER_NAME: Final = "server.pem"
CA_NAME: Final = "ca.pem"


@dataclass(frozen=True, slots=True)
class Kept:
    """What lies in the files.

    Attributes:
        ca: the CA.
        server: the server's key and certificate.
        new_ca: whether the CA was made now: clients need its certificate.
        new_server: whether the server's was: a running one has to be restarted.
    """

    ca: Pair
    server: Pair
    new_ca: bool
    new_server: bool


def keep(
    directory: Path, ca_file: Path, hosts: Sequence[x509.GeneralName], *, now: float
) -> Kept:
    """Make what is missing, what is for other hosts, and what ends soon; else nothing.

    Safe to repeat: what a crash left is used, or made again.

    Args:
        directory: of the private files.
        ca_file: where the CA's certificate goes.
        hosts: see `tls_certificates.parse_hosts`.
        now: Unix seconds.

    Raises:
        KeyRefused: a file holds something else; it is not replaced.
        KeyUnavailable: one cannot be read or written, or is open to others.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(directory):
            return _kept(directory, ca_file, hosts, now)
    except OSError as error:
        raise KeyUnavailable(
            f"{error.filename or directory} cannot be written: {error.strerror}"
        ) from None


def _kept(
    directory: Path, ca_file: Path, hosts: Sequence[x509.GeneralName], now: float
) -> Kept:
    old = _load(directory / SERVER_NAME)
    ca, new_ca = _kept_ca(directory / CA_PRIVATE_NAME, hosts, now)
    # Before the server shows what only a new CA vouches for.
    _show(ca_file, certificates.pem(ca.certificate))
    if old is not None and tls_certificates.is_for(old, ca, hosts, now=now):
        return Kept(ca, old, new_ca=new_ca, new_server=False)
    made = tls_certificates.make_server(ca, hosts, now=now)
    replace_file(directory / SERVER_NAME, _private_pem(made), mode=0o600)
    return Kept(ca, made, new_ca=new_ca, new_server=True)


def _kept_ca(
    path: Path, hosts: Sequence[x509.GeneralName], now: float
) -> tuple[Pair, bool]:
    """Return the CA, and whether it is a new one."""
    old = _load(path)
    if old is not None and tls_certificates.vouches_for(old, hosts) and old.lasts(now):
        return old, False
    made = tls_certificates.make_ca(hosts, now=now)
    replace_file(path, _private_pem(made), mode=0o600)
    return made, True


def _show(path: Path, pem: bytes) -> None:
    try:
        if path.read_bytes() == pem:
            return
    except FileNotFoundError:
        pass
    replace_file(path, pem, mode=0o644)


def _private_pem(pair: Pair) -> bytes:
    return keypolicy.private_pem(pair.key) + certificates.pem(pair.certificate)


def _load(path: Path) -> Pair | None:
    """Return what `_private_pem` wrote; None if there is no such file."""
    try:
        pem = read_private(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyUnavailable(f"{path} cannot be read: {error.strerror}") from None
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
        is_its = certificate.public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        is_its = False
    if not is_its or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyRefused(
            f"{path} does not hold what this command wrote: move it away, and a new"
            " one is made"
        )
    return Pair(key, certificate)
