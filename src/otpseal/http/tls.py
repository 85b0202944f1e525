"""TLS of the listener: versions, key files, and the names of verified clients."""

import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from otpseal.adapters.private_files import refuse_open_to_others
from otpseal.config import Settings
from otpseal.errors import ConfigurationError, KeyRefused, KeyUnavailable
from otpseal.secret import Secret
from otpseal.secret_files import read_secret_file

#: Kinds of subject alternative names that a client can be known by.
_KINDS: Final = ("DNS", "URI", "email")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the listener's certificate and key are.

    Attributes:
        cert_file: certificate chain, PEM, the server's own first.
        key_file: its private key, PEM.
        passphrase_file: of the private key, if it is encrypted.
        client_ca_file: whose client certificates verify; None: none is asked for.
    """

    cert_file: Path
    key_file: Path
    passphrase_file: Path | None
    client_ca_file: Path | None

    def passphrase(self) -> Secret | None:
        """The private key's passphrase, or None if no file is set."""
        if self.passphrase_file is None:
            return None
        return read_secret_file(self.passphrase_file, "OTPSEAL_TLS_KEY_PASSPHRASE_FILE")


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return where certificate and key are; None if plain HTTP is wanted.

    Raises:
        ConfigurationError: one of the settings needs another that is not set.
    """
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    others = (settings.tls_key_passphrase_file, settings.tls_client_ca_file)
    if certificate is not None and key is not None:
        return TlsFiles(certificate, key, *others)
    if any((certificate, key, *others)):
        # Half a configuration must not become plain HTTP in silence.
        raise ConfigurationError(
            "TLS needs both OTPSEAL_TLS_CERT_FILE and OTPSEAL_TLS_KEY_FILE; every"
            " other OTPSEAL_TLS_ setting needs these two"
        )
    return None


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return how the listener speaks TLS, or None if it speaks plain HTTP.

    TLS 1.2 and 1.3 with OpenSSL's own choice of ciphers. With a client CA a client
    may show a certificate, and one that does not verify (its chain, its dates, its
    purpose of authenticating a client) ends the handshake; who shows none is let in,
    and has to bring a token.

    Raises:
        ConfigurationError: a setting without the one it needs; a certificate that is
            missing or none.
        KeyUnavailable: the key is missing, unreadable, open to others, or locked.
        KeyRefused: the key is none, or not the certificate's.
    """
    files = tls_files(settings)
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _load_certificate(context, files)
    if files.client_ca_file is not None:
        _load_client_ca(context, files.client_ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _load_certificate(context: ssl.SSLContext, files: TlsFiles) -> None:
    _check_readable(files.cert_file, "OTPSEAL_TLS_CERT_FILE")
    _check_key_file(files.key_file)
    passphrase = files.passphrase()
    asked = False

    def secret() -> bytes:
        # Without this function OpenSSL would ask at the terminal.
        nonlocal asked
        asked = True
        return b"" if passphrase is None else passphrase.reveal()

    try:
        context.load_cert_chain(files.cert_file, files.key_file, secret)
    except (ssl.SSLError, ValueError) as error:  # ValueError: a passphrase too long
        if asked:
            raise KeyUnavailable(
                f"the TLS key {files.key_file} is locked: name the file with its"
                " passphrase by OTPSEAL_TLS_KEY_PASSPHRASE_FILE"
                if passphrase is None
                else f"the TLS key {files.key_file} does not open with the passphrase"
                " in OTPSEAL_TLS_KEY_PASSPHRASE_FILE"
            ) from None
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise KeyRefused(
                f"the TLS key {files.key_file} is not that of the certificate"
                f" {files.cert_file}"
            ) from None
        raise ConfigurationError(
            f"OTPSEAL_TLS_CERT_FILE, OTPSEAL_TLS_KEY_FILE: {files.cert_file} and"
            f" {files.key_file} must hold a certificate chain, the server's own first,"
            " and its private key, in PEM"
        ) from None


def _load_client_ca(context: ssl.SSLContext, path: Path) -> None:
    _check_readable(path, "OTPSEAL_TLS_CLIENT_CA_FILE")
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigurationError(
            f"OTPSEAL_TLS_CLIENT_CA_FILE: {path} holds no certificate in PEM"
        ) from None


def _check_readable(path: Path, variable: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(
            f"{variable}: {path} cannot be read: {error.strerror}"
        ) from None


def _check_key_file(path: Path) -> None:
    try:
        with path.open("rb"):
            mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise KeyUnavailable(
            f"the TLS key {path} cannot be read: {error.strerror}"
        ) from None
    refuse_open_to_others(mode, path)


def peer_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a verified certificate as `DNS:...`, `URI:...`, `email:...`.

    Args:
        certificate: as `ssl.SSLObject.getpeercert` gives it.

    Names stand as they are typed in the certificate, in its order; DNS names in lower
    case, since their case means nothing (RFC 4343). The subject's common name is no
    name (RFC 9525 section 2).
    """
    return tuple(
        f"{kind}:{name.lower() if kind == 'DNS' else name}"
        for kind, name in certificate.get("subjectAltName", ())
        if kind in _KINDS
    )


def valid_until(certificate: Mapping[str, Any]) -> float:
    """Return the Unix time at which a certificate expires."""
    return ssl.cert_time_to_seconds(certificate["notAfter"])
