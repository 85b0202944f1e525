"""The options of `otpseal account import` that belong to PSKC, and what they mean."""

import binascii
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otpseal import moving
from otpseal.errors import ConfigurationError
from otpseal.formats.content import MAX_BYTES
from otpseal.formats.row import Entry, Fault
from otpseal.ports import Keys
from otpseal.secret import Secret
from otpseal.secret_files import read_secret_file

if TYPE_CHECKING:
    from otpseal.formats.pskc.signing import Signers

#: Largest file of certificates, in bytes.
_MAX_PEM_BYTES = 256 * 1024

PresharedFile = Annotated[
    Path | None,
    typer.Option(
        "--pskc-key-file",
        metavar="FILE",
        help="PSKC: the pre-shared key, in hexadecimal.",
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--pskc-passphrase-file", metavar="FILE", help="PSKC: the passphrase."
    ),
]
CertificateFile = Annotated[
    Path | None,
    typer.Option(
        "--pskc-certificate",
        metavar="FILE",
        help="PSKC: the signer's certificate, PEM.",
    ),
]
AuthorityFile = Annotated[
    Path | None,
    typer.Option(
        "--pskc-ca-file",
        metavar="FILE",
        help="PSKC: CA certificates that the signer's is issued by, PEM.",
    ),
]
RequireSignature = Annotated[
    bool,
    typer.Option("--require-signature", help="PSKC: refuse a container without one."),
]
MaxBytes = Annotated[
    int | None,
    typer.Option(
        "--max-bytes",
        min=1,
        max=MAX_BYTES,
        help="PSKC: largest container. [default: 262144]",
    ),
]


@dataclass(frozen=True, slots=True)
class PskcOptions:
    """What was given on the command line.

    Attributes:
        preshared_file: holds the pre-shared key.
        passphrase_file: holds the passphrase.
        certificate: the signer's.
        ca_file: those that issued the signer's.
        require_signature: whether a container without one is refused.
        max_bytes: largest container, or None for the default.
    """

    preshared_file: Path | None = None
    passphrase_file: Path | None = None
    certificate: Path | None = None
    ca_file: Path | None = None
    require_signature: bool = False
    max_bytes: int | None = None

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            ConfigurationError: they do not.
        """
        if self.preshared_file and self.passphrase_file:
            raise ConfigurationError(
                "give --pskc-key-file or --pskc-passphrase-file, not both"
            )
        if self.certificate and self.ca_file:
            raise ConfigurationError("give --pskc-certificate or --pskc-ca-file")
        if self.require_signature and not (self.certificate or self.ca_file):
            raise ConfigurationError(
                "--require-signature needs to know whose: give --pskc-certificate or"
                " --pskc-ca-file"
            )

    def require_unused(self) -> None:
        """Check that none was given: the file is no container.

        Raises:
            ConfigurationError: one was; whoever asked for a signature means to get
                what was signed.
        """
        if self != PskcOptions():
            raise ConfigurationError(
                "the file is no PSKC container, which --pskc-..., --require-signature"
                " and --max-bytes belong to"
            )


def container_arrivals(
    content: bytes, options: PskcOptions, keys: Keys
) -> list[moving.Arrival | Fault]:
    """Return what a container brings.

    Raises:
        FileRefused: it cannot be read, or is not by whom it has to be.
        ConfigurationError: a file of the options cannot be read.
    """
    from otpseal.formats.pskc import tree
    from otpseal.formats.pskc.container import parse
    from otpseal.formats.pskc.protection import ImportKey, Unlocking

    def decrypt(ciphertext: bytes, label: bytes | None) -> bytes:
        return keys.oaep_decrypt(ciphertext, label=label)

    unlocking = Unlocking(
        ImportKey(keys.kid, keys.public_key, decrypt),
        _preshared(options.preshared_file),
        _passphrase(options.passphrase_file),
    )
    rows = parse(
        content,
        unlocking,
        now=time.time(),
        signers=_signers(options),
        require_signature=options.require_signature,
        max_bytes=options.max_bytes or tree.MAX_BYTES,
    )
    return [moving.arrival(row) if isinstance(row, Entry) else row for row in rows]


def _preshared(path: Path | None) -> Secret | None:
    if path is None:
        return None
    from otpseal.formats.pskc.ciphers import KEY_BYTES

    try:
        key = binascii.unhexlify(read_secret_file(path, "--pskc-key-file").reveal())
    except ValueError:
        key = b""
    if len(key) not in KEY_BYTES:
        raise ConfigurationError(
            "--pskc-key-file holds no key: 32, 48 or 64 hexadecimal digits"
        )
    return Secret(key)


def _passphrase(path: Path | None) -> Secret | None:
    return None if path is None else read_secret_file(path, "--pskc-passphrase-file")


def _signers(options: PskcOptions) -> "Signers | None":
    from otpseal.formats.pskc.signing import Signers

    if options.certificate is None and options.ca_file is None:
        return None
    return Signers.of_pem(
        pinned=_pem(options.certificate, "--pskc-certificate"),
        authorities=_pem(options.ca_file, "--pskc-ca-file"),
    )


def _pem(path: Path | None, option: str) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"{option}: {path} cannot be read: {error.strerror}"
        ) from None
