"""Certificates for the tests of TLS: an authority of our own, and what it issues."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files."""

    cert_file: Path
    key_file: Path


def written(directory: Path, issued: trustme.LeafCert, name: str) -> Identity:
    """Write what trustme issued, the key for its owner alone."""
    identity = Identity(directory / f"{name}.pem", directory / f"{name}.key")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    identity.cert_file.write_bytes(chain)
    identity.key_file.touch(0o600)
    identity.key_file.write_bytes(issued.private_key_pem.bytes())
    return identity


def issued(
    directory: Path,
    authority: trustme.CA,
    name: str,
    *names: x509.GeneralName,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    days: tuple[int, int] = (-1, 1),
) -> Identity:
    """Issue a certificate as trustme would not: for one purpose, of any date.

    Args:
        directory: where its files go.
        authority: who issues it.
        name: of the files, and the subject's common name.
        names: subject alternative names, as they are.
        purpose: the only extended key usage.
        days: from when until when it is valid, counted from now.
    """
    ca = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    ca_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * _DAY)
        .not_valid_after(now + days[1] * _DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
    certificate = builder.sign(ca_key, hashes.SHA256())
    identity = Identity(directory / f"{name}.pem", directory / f"{name}.key")
    identity.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    identity.key_file.touch(0o600)
    identity.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return identity
