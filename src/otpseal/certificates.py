"""Certificates that an authority makes: its CA, its signing keys, its subscribers'.

As `otpseal.certificate_profile` wants them. Made with one CA key, RSA of the key
policy or P-256, and SHA-256. Pure but for the serial numbers, whose random source is
an argument.
"""

import datetime as dt
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.x509.oid import NameOID

from otpseal import keypolicy, public_jwk
from otpseal.certificate_profile import (
    SEED_RECEIVING,
    SEED_SIGNING,
    authority_uri,
    check_ca,
    subscriber_uri,
)
from otpseal.errors import KeyRefused

#: How long certificates last unless told otherwise, in days.
CA_DAYS: Final = 3650
SIGNING_DAYS: Final = 365
SUBSCRIBER_DAYS: Final = 365

#: A certificate is valid from so many seconds before now on: clocks differ.
BACKDATED_S: Final = 300

_DAY_S: Final = 86_400
#: RFC 5280 section 4.1.2.2: at most 20 bytes, positive.
_SERIAL_BYTES: Final = 20
_MAX_COMMON_NAME: Final = 64

CaKey = RSAPrivateKey | ec.EllipticCurvePrivateKey
Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that issues.

    Attributes:
        certificate: of the CA, see `certificate_profile.check_ca`.
        key: its private key.
        random: gives serial numbers.
    """

    certificate: x509.Certificate
    key: CaKey
    random: Random = secrets.token_bytes

    def issue_signing(
        self,
        name: str,
        key: RSAPublicKey | Ed25519PublicKey,
        *,
        now: float,
        days: int = SIGNING_DAYS,
    ) -> x509.Certificate:
        """Return the certificate of an authority's signing key.

        Args:
            name: the authority's, as services pin it.
            key: verifies what the authority signs.
            now: Unix seconds.
            days: how long it lasts, the CA's own end at most.

        Raises:
            KeyRefused: the key is against the policy, or the CA is over.
        """
        usage = key_usage(digital_signature=True)
        return self._issue(
            x509.SubjectAlternativeName([authority_uri(name)]),
            public_jwk.check_key(key),
            (SEED_SIGNING, usage, name),
            now=now,
            days=days,
        )

    def issue_subscriber(
        self,
        name: str,
        key: RSAPublicKey,
        *,
        now: float,
        days: int = SUBSCRIBER_DAYS,
    ) -> x509.Certificate:
        """Return the certificate of a subscriber's import key, which seeds go to.

        Args:
            name: the subscriber's.
            key: whose private half the subscriber has shown to have
                (`otpseal.enrolment_request`).
            now: Unix seconds.
            days: how long it lasts, the CA's own end at most.

        Raises:
            KeyRefused: the key is against the policy, or the CA is over.
        """
        usage = key_usage(digital_signature=True, key_encipherment=True)
        return self._issue(
            x509.SubjectAlternativeName([subscriber_uri(name)]),
            keypolicy.check_public_key(key),
            (SEED_RECEIVING, usage, name),
            now=now,
            days=days,
        )

    def _issue(
        self,
        names: x509.SubjectAlternativeName,
        key: public_jwk.VerifyingKey,
        profile: tuple[x509.ObjectIdentifier, x509.KeyUsage, str],
        *,
        now: float,
        days: int,
    ) -> x509.Certificate:
        if not isinstance(key, RSAPublicKey | Ed25519PublicKey):
            raise KeyRefused("certificates are made for RSA and Ed25519 keys")
        purpose, usage, name = profile
        ends = min(
            now + days * _DAY_S, self.certificate.not_valid_after_utc.timestamp()
        )
        starts = now - BACKDATED_S
        if ends <= now:
            raise KeyRefused("the CA certificate has expired: make another")
        return (
            dated(self.random, starts, ends)
            .subject_name(common_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .add_extension(
                x509.BasicConstraints(ca=False, path_length=None), critical=True
            )
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(names, critical=False)
            .add_extension(authority_key_id(self.certificate, self.key), False)  # noqa: FBT003
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)  # noqa: FBT003
            .sign(self.key, hashes.SHA256())
        )


def make_ca(
    name: str,
    key: CaKey,
    *,
    now: float,
    days: int = CA_DAYS,
    random: Random = secrets.token_bytes,
) -> x509.Certificate:
    """Return a self-signed CA certificate, below which there are no other CAs.

    Args:
        name: for people, 1 to 64 characters.
        key: RSA of the key policy, or P-256.
        now: Unix seconds.
        days: how long it lasts.
        random: gives the serial number.

    Raises:
        KeyRefused: the key is against the policy.
    """
    subject = common_name(name)
    public = key.public_key()
    made = (
        dated(random, now - BACKDATED_S, now + days * _DAY_S)
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return check_ca(made)


def dated(random: Random, starts: float, ends: float) -> x509.CertificateBuilder:
    """Begin a certificate: a serial number, and from when to when, in Unix seconds."""
    # A set bit below the sign's: positive, and always of 20 bytes.
    raw = random(_SERIAL_BYTES)
    serial = int.from_bytes(bytes([raw[0] & 0x7F | 0x40]) + raw[1:], "big")
    return (
        x509.CertificateBuilder()
        .serial_number(serial)
        .not_valid_before(dt.datetime.fromtimestamp(int(starts), dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(int(ends), dt.UTC))
    )


def authority_key_id(
    certificate: x509.Certificate, key: CaKey
) -> x509.AuthorityKeyIdentifier:
    """Return what names the issuer's key (RFC 5280 section 4.2.1.1)."""
    try:
        known = certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known.value)


def common_name(name: str) -> x509.Name:
    """Return a name for people, of 64 characters at most."""
    # Only for people, who see its beginning; the alternative name has all of it.
    cut = name[:_MAX_COMMON_NAME]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cut)])


def key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    """Return the usages that are named, and no others (RFC 5280 section 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate's PEM, ending in a newline."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate's DER, as `x5c` carries it in base64."""
    return certificate.public_bytes(serialization.Encoding.DER)
