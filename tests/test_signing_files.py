"""An authority's signing key and CA in files: whole, its own, and closed to others."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from otpseal import keypolicy
from otpseal.adapters import signing_files
from otpseal.adapters.signing_files import SigningFiles, load, write
from otpseal.certificates import Issuer, make_ca
from otpseal.errors import KeyRefused, KeyUnavailable

NOW = 1_800_000_000.0
FILES = (
    "ca_certificate.pem",
    "ca_private.pem",
    "signing_certificate.pem",
    "signing_private.pem",
)


def made() -> SigningFiles:
    """Make all four."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = make_ca("hq", ca_key, now=NOW)
    key = Ed25519PrivateKey.generate()
    certificate = Issuer(ca, ca_key).issue_signing("hq", key.public_key(), now=NOW)
    return SigningFiles(key, certificate, ca, ca_key)


def raw(key: signing_files.SigningKey | signing_files.CaKey | None) -> bytes:
    """Return a private key's bytes."""
    assert key is not None
    return keypolicy.private_pem(key)


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_what_is_written_is_loaded(tmp_path: Path, passphrase: bytes | None) -> None:
    """Both keys and both certificates, with a passphrase and without."""
    files = made()
    assert not signing_files.exist(tmp_path / "keys")

    write(tmp_path / "keys", files, passphrase)

    assert signing_files.exist(tmp_path / "keys")
    found = load(tmp_path / "keys", passphrase)
    assert raw(files.key) == raw(found.key)
    assert raw(files.ca_key) == raw(found.ca_key)
    assert files.certificate == found.certificate
    assert files.ca_certificate == found.ca_certificate
    assert FILES == tuple(sorted(path.name for path in (tmp_path / "keys").iterdir()))


def test_a_passphrase_protects(tmp_path: Path) -> None:
    """Neither without it nor with another one."""
    write(tmp_path, made(), b"correct horse")

    with pytest.raises(KeyUnavailable, match="OTPSEAL_KEY_PASSPHRASE_FILE"):
        load(tmp_path)
    with pytest.raises(KeyRefused):
        load(tmp_path, b"battery staple")


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    """One file that is there, and none is written."""
    (tmp_path / name).write_text("mine")

    with pytest.raises(KeyUnavailable, match=name):
        write(tmp_path, made(), None)

    assert [name] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["ca_private.pem", "signing_private.pem"])
def test_a_key_that_is_open_to_others_is_refused(tmp_path: Path, name: str) -> None:
    """As every private key."""
    write(tmp_path, made(), None)
    (tmp_path / name).chmod(0o640)

    with pytest.raises(KeyUnavailable, match="0640"):
        load(tmp_path)


def test_the_cas_key_may_be_elsewhere(tmp_path: Path) -> None:
    """Signing needs no CA; certificates are then made where it is."""
    write(tmp_path, made(), None)
    (tmp_path / "ca_private.pem").unlink()

    assert load(tmp_path).ca_key is None


@pytest.mark.parametrize("name", FILES[2:] + FILES[:1])
def test_the_others_may_not(tmp_path: Path, name: str) -> None:
    """A missing file is named."""
    write(tmp_path, made(), None)
    (tmp_path / name).unlink()

    with pytest.raises(KeyUnavailable, match=name):
        load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, name: str) -> None:
    """A file of another authority among its own."""
    write(tmp_path / "a", made(), None)
    write(tmp_path / "b", made(), None)
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())

    with pytest.raises(KeyRefused, match="not of the private key"):
        load(tmp_path / "a")


@pytest.mark.parametrize("name", FILES)
def test_noise_is_refused(tmp_path: Path, name: str) -> None:
    """And the file is named."""
    write(tmp_path, made(), None)
    (tmp_path / name).write_text("-----BEGIN NOISE-----")

    with pytest.raises(KeyRefused, match=name):
        load(tmp_path)


def pem(
    key: X25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> bytes:
    """Return any private key's PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "key",
    [
        X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["X25519", "P-384", "P-256", "RSA-2048"],
)
def test_other_keys_sign_nothing(
    tmp_path: Path,
    key: X25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    """RSA of the key policy, or Ed25519."""
    write(tmp_path, made(), None)
    (tmp_path / "signing_private.pem").write_bytes(pem(key))

    with pytest.raises(KeyRefused):
        load(tmp_path)


def test_an_ed25519_ca_is_refused(tmp_path: Path) -> None:
    """No verifier would take what it issues."""
    files = made()
    write(tmp_path, files, None)
    (tmp_path / "ca_private.pem").write_bytes(raw(files.key))

    with pytest.raises(KeyRefused, match="no RSA or P-256 key"):
        load(tmp_path)


def test_no_key_is_shown() -> None:
    """The repr of the whole holds no private bytes."""
    files = made()

    shown = repr(files) + repr(replace(files, ca_key=None))

    assert raw(files.key).decode().splitlines()[1] not in shown
