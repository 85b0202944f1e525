"""An authority's signing pair of the suite pq in a file: whole, closed to others."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA44PrivateKey,
    MLDSA65PrivateKey,
)
from openssl_cli import openssl

from otpseal.adapters import pq_signing_file
from otpseal.adapters.pq_signing_file import load, write
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.pq_keys import PqSigner

NAME = "pq_signing_private.pem"
SECRET = b"correct horse"


def made() -> PqSigner:
    """Make a pair."""
    return PqSigner(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())


def pem(
    key: Ed25519PrivateKey | MLDSA65PrivateKey | MLDSA44PrivateKey,
) -> bytes:
    """Return a private key's PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def raw(signer: PqSigner) -> tuple[bytes, bytes]:
    """Return both private keys' bytes."""
    return signer.ed25519.private_bytes_raw(), signer.ml_dsa.private_bytes_raw()


@pytest.mark.parametrize("passphrase", [None, SECRET])
def test_what_is_written_is_loaded(tmp_path: Path, passphrase: bytes | None) -> None:
    """Both keys, in one file that is its owner's alone."""
    signer, directory = made(), tmp_path / "keys"
    assert not pq_signing_file.exists(directory)

    write(directory, signer, passphrase)

    assert pq_signing_file.exists(directory)
    assert raw(signer) == raw(load(directory, passphrase))
    (path,) = directory.iterdir()
    assert (NAME, 0o600) == (path.name, stat.S_IMODE(path.stat().st_mode))


def test_a_passphrase_protects(tmp_path: Path) -> None:
    """Neither key is in the file, nor had without it or with another one."""
    signer = made()
    write(tmp_path, signer, SECRET)

    content = (tmp_path / NAME).read_bytes()
    assert 2 == content.count(b"BEGIN ENCRYPTED PRIVATE KEY")
    for key in (signer.ed25519, signer.ml_dsa):
        assert pem(key).splitlines()[1] not in content
    with pytest.raises(KeyUnavailable, match="OTPSEAL_KEY_PASSPHRASE_FILE"):
        load(tmp_path)
    with pytest.raises(KeyRefused):
        load(tmp_path, b"battery staple")


def test_openssl_reads_the_first(tmp_path: Path) -> None:
    """PKCS#8 as others know it; an OpenSSL 3.0 knows no ML-DSA."""
    signer = made()
    write(tmp_path, signer, SECRET)

    public = openssl(
        *("pkey", "-in", tmp_path / NAME, "-pubout", "-outform", "DER"),
        *("-passin", f"pass:{SECRET.decode()}"),
    )

    assert signer.ed25519.public_key().public_bytes_raw() == public[-32:]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Not even a link that leads nowhere."""
    (tmp_path / NAME).symlink_to(tmp_path / "nowhere")

    with pytest.raises(KeyUnavailable, match=NAME):
        write(tmp_path, made(), None)

    assert [NAME] == [path.name for path in tmp_path.iterdir()]


def test_a_pair_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    """As every private key."""
    write(tmp_path, made(), None)
    (tmp_path / NAME).chmod(0o640)

    with pytest.raises(KeyUnavailable, match="0640"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With what to do; so is one that cannot be read, or written."""
    with pytest.raises(KeyUnavailable, match=f"{NAME} is missing"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        load(tmp_path / "file")
    with pytest.raises(KeyUnavailable, match="cannot be written"):
        write(tmp_path / "file", made(), None)


ED25519, ML_DSA = pem(Ed25519PrivateKey.generate()), pem(MLDSA65PrivateKey.generate())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN NOISE-----",
        ED25519,
        ML_DSA,
        ML_DSA + ED25519,
        ED25519 + ML_DSA + ED25519,
        ED25519 + ED25519,
        ED25519 + ML_DSA + b"noise",
        ED25519 + ML_DSA.replace(b"M", b"N"),
        ED25519 + pem(MLDSA44PrivateKey.generate()),
        ED25519 + ML_DSA + b"\n" * 20_000 + b"noise",
    ],
)
def test_what_is_no_pair_is_refused(tmp_path: Path, content: bytes) -> None:
    """Half of one, the other way round, three, or of another strength."""
    path = tmp_path / NAME
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(KeyRefused, match=NAME):
        load(tmp_path)


def test_no_key_is_shown() -> None:
    """The repr of a pair holds no private bytes."""
    signer = made()

    shown = repr(signer)

    assert not any(half.hex() in shown or repr(half) in shown for half in raw(signer))
