"""An authority's signing key and CA in files, beside its RSA key.

Four PEM files in one directory: two private keys, 0600, and their certificates, 0644.
The CA is not needed to sign envelopes, only to make certificates: who keeps it
elsewhere moves `ca_private.pem` away.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from otpseal import certificates, keypolicy
from otpseal.adapters.private_files import create_file, parse_private, read_private
from otpseal.errors import KeyRefused, KeyUnavailable

SIGNING_KEY_NAME: Final = "signing_private.pem"
SIGNING_CERTIFICATE_NAME: Final = "signing_certificate.pem"
#: Lies ready during a renewal (`otpseal.adapters.signing_swap`).
NEXT_CERTIFICATE_NAME: Final = "signing_certificate.next.pem"
CA_KEY_NAME: Final = "ca_private.pem"
CA_CERTIFICATE_NAME: Final = "ca_certificate.pem"
_NAMES: Final = (
    SIGNING_KEY_NAME,
    SIGNING_CERTIFICATE_NAME,
    CA_KEY_NAME,
    CA_CERTIFICATE_NAME,
)

SigningKey = RSAPrivateKey | Ed25519PrivateKey
CaKey = RSAPrivateKey | EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class SigningFiles:
    """What an authority signs with, as it lies in its files.

    Attributes:
        key: signs envelopes.
        certificate: the key's, by the CA.
        ca_certificate: the CA's own; services may pin it.
        ca_key: makes certificates; None if it is kept elsewhere.
    """

    key: SigningKey
    certificate: x509.Certificate
    ca_certificate: x509.Certificate
    ca_key: CaKey | None


def exist(directory: Path) -> bool:
    """Tell whether an authority was initialised here."""
    return os.path.lexists(directory / SIGNING_KEY_NAME)


def write(directory: Path, files: SigningFiles, passphrase: bytes | None) -> None:
    """Write all four, none over another; the signing key last.

    So a crash leaves no signing key without its certificates; what it does leave is
    named by the next try.

    Raises:
        KeyUnavailable: one exists, or they cannot be written.
    """
    assert files.ca_key is not None
    contents = (
        (CA_KEY_NAME, keypolicy.private_pem(files.ca_key, passphrase), 0o600),
        (CA_CERTIFICATE_NAME, certificates.pem(files.ca_certificate), 0o644),
        (SIGNING_CERTIFICATE_NAME, certificates.pem(files.certificate), 0o644),
        (SIGNING_KEY_NAME, keypolicy.private_pem(files.key, passphrase), 0o600),
    )
    refuse_existing(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content, mode in contents:
            create_file(directory / name, content, mode=mode)
    except OSError as error:
        raise KeyUnavailable(
            f"the keys cannot be written to {directory}: {error.strerror}"
        ) from None


def refuse_existing(directory: Path, names: Iterable[str] = _NAMES) -> None:
    """Check that none of the files is there: before keys are made, not after.

    Raises:
        KeyUnavailable: names the file that exists.
    """
    for name in names:
        path = directory / name
        if os.path.lexists(path):
            raise KeyUnavailable(
                f"{path} exists and is not overwritten: services trust what was made"
                " with it. Move it away first if it is to be replaced"
            )


def load(directory: Path, passphrase: bytes | None = None) -> SigningFiles:
    """Load what `write` wrote; the CA's private key may be missing.

    Raises:
        KeyUnavailable: missing, unreadable, open to others, or locked.
        KeyRefused: not what belongs in these files, or not belonging together.
    """
    key = _load_key(directory / SIGNING_KEY_NAME, passphrase)
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise KeyRefused(f"{directory / SIGNING_KEY_NAME} is no RSA or Ed25519 key")
    ca_key = _load_ca_key(directory / CA_KEY_NAME, passphrase)
    files = SigningFiles(
        key=key,
        certificate=_load_certificate_of(key, directory),
        ca_certificate=load_certificate(directory / CA_CERTIFICATE_NAME),
        ca_key=ca_key,
    )
    if ca_key is not None:
        _check_pair(ca_key, files.ca_certificate, directory / CA_CERTIFICATE_NAME)
    return files


def _load_key(path: Path, passphrase: bytes | None) -> SigningKey | CaKey:
    with _unreadable_explained(path):
        pem = read_private(path)
    key = parse_private(pem, passphrase, path)
    if isinstance(key, RSAPrivateKey):
        keypolicy.check_public_key(key.public_key())
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise KeyRefused(f"{path} is no RSA, P-256 or Ed25519 key")


def load_ca_key(
    path: Path, passphrase: bytes | None, certificate: x509.Certificate
) -> CaKey:
    """Load a CA's private key from where it is kept, if it is this CA's.

    Raises:
        KeyUnavailable, KeyRefused: as `load`.
    """
    key = _load_ca_key(path, passphrase)
    if key is None:
        raise KeyUnavailable(f"there is no CA key at {path}")
    if not is_pair(key, certificate):
        raise KeyRefused(f"{path} is the key of another CA than the certificate's")
    return key


def _load_ca_key(path: Path, passphrase: bytes | None) -> CaKey | None:
    if not os.path.lexists(path):
        return None
    key = _load_key(path, passphrase)
    if isinstance(key, Ed25519PrivateKey):
        # `cryptography` verifies no chain under an Ed25519 CA.
        raise KeyRefused(f"{path} is no RSA or P-256 key")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Load one certificate; raises as `load`."""
    with _unreadable_explained(path), path.open("rb") as file:
        pem = file.read(keypolicy.MAX_PEM_BYTES + 1)
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise KeyRefused(f"{path} is no certificate in PEM form") from None


def _load_certificate_of(key: SigningKey, directory: Path) -> x509.Certificate:
    path = directory / SIGNING_CERTIFICATE_NAME
    ready = directory / NEXT_CERTIFICATE_NAME
    certificate = load_certificate(path)
    # A renewal was interrupted between its two renames: the key came first.
    if not is_pair(key, certificate) and os.path.lexists(ready):
        certificate, path = load_certificate(ready), ready
    _check_pair(key, certificate, path)
    return certificate


def is_pair(key: SigningKey | CaKey, certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is of a private key."""
    form = (
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )
    try:
        return certificate.public_key().public_bytes(
            *form
        ) == key.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        return False


def _check_pair(
    key: SigningKey | CaKey, certificate: x509.Certificate, path: Path
) -> None:
    if not is_pair(key, certificate):
        raise KeyRefused(f"{path} is not of the private key beside it")


@contextlib.contextmanager
def _unreadable_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise KeyUnavailable(f"{path} is missing: restore it from a backup") from None
    except OSError as error:
        raise KeyUnavailable(f"{path} cannot be read: {error.strerror}") from None
