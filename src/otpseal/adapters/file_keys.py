"""RSA keys: made, kept in PEM files, loaded once per process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
)

from otpseal import keypolicy
from otpseal.adapters.private_files import create_file, read_private
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.padding import oaep_decrypt, pss_sign


class RsaKeys:
    """`otpseal.ports.Keys` over a private key in this process's memory."""

    def __init__(self, private_key: RSAPrivateKey) -> None:
        self._private_key = private_key
        self._public_key = private_key.public_key()
        self._kid = keypolicy.key_id(self._public_key)

    @property
    def kid(self) -> str:
        """See `otpseal.ports.Keys`."""
        return self._kid

    @property
    def public_key(self) -> RSAPublicKey:
        """See `otpseal.ports.Keys`."""
        return self._public_key

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """See `otpseal.ports.Keys`."""
        return oaep_decrypt(self._private_key, ciphertext, label=label)

    def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
        """See `otpseal.ports.Keys`."""
        return pss_sign(self._private_key, message, salt_length=salt_length)


def public_path(private_path: Path) -> Path:
    """Return where the public half lies: `student_private.pem` -> `student_public.pem`.

    A name without `_private` gets `.pub.pem` for its suffix.
    """
    if "_private" in private_path.name:
        return private_path.with_name(private_path.name.replace("_private", "_public"))
    return private_path.with_suffix(".pub.pem")


def generate_private_key(bits: int) -> RSAPrivateKey:
    """Search for primes: seconds for 4096 bits, about ten times that for 8192."""
    return rsa.generate_private_key(keypolicy.PUBLIC_EXPONENT, bits)


def write_key_pair(
    key: RSAPrivateKey, private_path: Path, passphrase: bytes | None = None
) -> None:
    """Write both halves, 0600 and 0644, each atomically, neither over another file.

    Raises:
        KeyUnavailable: one of the files exists, or cannot be written.
    """
    refuse_existing(private_path)
    public, pem = public_path(private_path), keypolicy.public_pem(key.public_key())
    with _unwritable_explained(private_path.parent):
        private_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_file(private_path, keypolicy.private_pem(key, passphrase), mode=0o600)
        try:
            create_file(public, pem, mode=0o644)
        except OSError:
            # Another process that starts just now saw the private half alone, loaded
            # it and made this one: it must not lose its key.
            if public.is_file() and public.read_bytes() == pem:
                return
            # Half a pair would only stand in the way of the next try.
            private_path.unlink()
            raise


def refuse_existing(private_path: Path) -> None:
    """Check that neither half of a key pair is there yet: before the long search.

    Raises:
        KeyUnavailable: names the file that exists.
    """
    for path in (private_path, public_path(private_path)):
        # lexists: a dangling link is a file too, and an unreadable directory is told
        # apart when it is written to.
        if os.path.lexists(path):
            raise KeyUnavailable(
                f"{path} exists and is not overwritten: move it away first, or name"
                " another place"
            )


def key_exists(path: Path) -> bool:
    """Tell whether there is a key file.

    Raises:
        KeyUnavailable: its directory belongs to another user.
    """
    try:
        return path.exists()
    except OSError as error:
        raise KeyUnavailable(
            f"{path} cannot be looked at: {error.strerror}. Run this as the user whom"
            " the key belongs to"
        ) from None


def restore_public_half(key: RSAPublicKey, private_path: Path) -> None:
    """Write the public file beside a private one if it is missing.

    A crash between the two files leaves the private one alone. A directory that
    cannot be written to is no error: the private key holds everything.
    """
    with contextlib.suppress(OSError):
        create_file(public_path(private_path), keypolicy.public_pem(key), mode=0o644)


def load_keys(path: Path, passphrase: bytes | None = None) -> RsaKeys:
    """Load and fully validate a private key file; about 0.4 s for 4096 bits.

    Raises:
        KeyUnavailable: missing, unreadable, or readable by group or others.
        KeyRefused: not a key that the policy accepts.
    """
    advice = (
        f"there is no private key at {path}: point OTPSEAL_KEY_FILE at"
        " it; for a new store `otpseal keys generate` makes one"
    )
    with _unreadable_explained(path, advice):
        pem = read_private(path)
    try:
        return RsaKeys(keypolicy.parse_private_key(pem, passphrase))
    except (KeyRefused, KeyUnavailable) as error:
        raise type(error)(f"{path}: {error}") from None


def load_public_key(path: Path) -> RSAPublicKey:
    """Load a public key file.

    Raises:
        KeyUnavailable: missing or unreadable.
        KeyRefused: not a key that the policy accepts.
    """
    advice = f"there is no public key at {path}: get it from its owner, or name another"
    with _unreadable_explained(path, advice), path.open("rb") as file:
        pem = file.read(keypolicy.MAX_PEM_BYTES + 1)
    try:
        return keypolicy.parse_public_key(pem)
    except KeyRefused as error:
        raise KeyRefused(f"{path}: {error}") from None


@contextlib.contextmanager
def _unreadable_explained(path: Path, if_missing: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise KeyUnavailable(if_missing) from None
    except OSError as error:
        raise KeyUnavailable(f"{path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _unwritable_explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyUnavailable(
            f"the key cannot be written to {directory}: {error.strerror}"
        ) from None
