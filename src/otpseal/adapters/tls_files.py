"""A server's TLS certificate and the CA that vouches for it, in files.

Two private files, each a key and its certificate in one, so that either is replaced
whole: `ca_private.pem` and `server.pem`. What clients need is `ca.pem`, the CA's
certificate alone.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from otpseal import certificates, keypolicy, tls_certificates
from otpseal.adapters.file_keys import refuse_open_to_others, sync_directory
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
        with _alone(directory):
            return _kept(directory, ca_file, hosts, now)
    except OSError as error:
        raise KeyUnavailable(
            f"{error.filename or directory} cannot be written: {error.strerror}"
        ) from None


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    # Two at once would leave a server whose CA the other one replaced.
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


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
    _replace(directory / SERVER_NAME, _private_pem(made), mode=0o600)
    return Kept(ca, made, new_ca=new_ca, new_server=True)


def _kept_ca(
    path: Path, hosts: Sequence[x509.GeneralName], now: float
) -> tuple[Pair, bool]:
    """Return the CA, and whether it is a new one."""
    old = _load(path)
    if old is not None and tls_certificates.vouches_for(old, hosts) and old.lasts(now):
        return old, False
    made = tls_certificates.make_ca(hosts, now=now)
    _replace(path, _private_pem(made), mode=0o600)
    return made, True


def _show(path: Path, pem: bytes) -> None:
    try:
        if path.read_bytes() == pem:
            return
    except FileNotFoundError:
        pass
    _replace(path, pem, mode=0o644)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "wb") as file:
            # The umask of a command takes from 0644 what others need.
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def _private_pem(pair: Pair) -> bytes:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key + certificates.pem(pair.certificate)


def _load(path: Path) -> Pair | None:
    """Return what `_private_pem` wrote; None if there is no such file."""
    try:
        with path.open("rb") as file:
            # The mode of the open file, not of the name: no race between the two.
            refuse_open_to_others(stat.S_IMODE(os.fstat(file.fileno()).st_mode), path)
            pem = file.read(keypolicy.MAX_PEM_BYTES + 1)
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
