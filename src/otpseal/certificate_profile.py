"""What an authority's X.509 certificates must be, and whether one is vouched for.

An authority may be pinned by its CA. Then its signing certificate travels with every
envelope, and counts if the pinned CA, or one below it, issued it (RFC 5280 section 6,
as `cryptography.x509.verification` does it) for just this purpose and this name:

- extended key usage: `SEED_SIGNING`; no general certificate of the same CA will do;
- subject alternative name: the one URI `otpseal:authority:NAME`, the pinned name;
- key usage: digitalSignature; basic constraints: no CA;
- a key that `otpseal.public_jwk` accepts; RSA of the key policy or P-256 above it.

The OIDs are below 2.25, where ITU-T X.667 lets anyone make one of a random UUID
without asking a registrar.

Leaves out: revocation. There are no CRLs; short lives and `authority trust remove`
take their place.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import verification
from cryptography.x509.verification import Criticality, ExtensionPolicy

from otpseal import keypolicy, public_jwk
from otpseal.errors import KeyRefused

#: Extended key usage: may sign seeds (UUID bcaed19d-f3c2-4e52-b296-cec38ccbc32b).
SEED_SIGNING: Final = x509.ObjectIdentifier(
    "2.25.250802574398817680917579108816966632235"
)

#: Extended key usage: seeds may be sealed to it
#: (UUID e40e1957-8ec4-48fb-b820-c56f6665a73b).
SEED_RECEIVING: Final = x509.ObjectIdentifier(
    "2.25.303137189192254702150688223789331097403"
)

#: Most certificates in a chain, the CA itself not counted.
MAX_CHAIN: Final = 4

#: Longest certificate that is looked at, in bytes of DER.
MAX_CERTIFICATE_BYTES: Final = 8 * 1024

_AUTHORITY: Final = "otpseal:authority:"
_SUBSCRIBER: Final = "otpseal:subscriber:"

#: What a certificate that is not as it should be makes the library raise.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def authority_uri(name: str) -> x509.UniformResourceIdentifier:
    """Return the only name in an authority's signing certificate."""
    return x509.UniformResourceIdentifier(_AUTHORITY + name)


def subscriber_uri(name: str) -> x509.UniformResourceIdentifier:
    """Return the only name in a subscriber's certificate."""
    return x509.UniformResourceIdentifier(_SUBSCRIBER + name)


def check_ca(certificate: x509.Certificate) -> x509.Certificate:
    """Return a CA certificate if authorities can be pinned by it.

    Raises:
        KeyRefused: says why not.
    """
    try:
        key = certificate.public_key()
        constraints = certificate.extensions.get_extension_for_class(
            x509.BasicConstraints
        ).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise KeyRefused(
            "the certificate is not that of a CA: basic constraints or key usage are"
            " missing"
        ) from None
    except _MALFORMED:
        raise KeyRefused("the certificate cannot be read") from None
    if not constraints.ca or not usage.key_cert_sign:
        raise KeyRefused("the certificate is not that of a CA: it may sign no others")
    if isinstance(key, Ed25519PublicKey):
        raise KeyRefused(
            "the CA's key is Ed25519, which the verifier of certificates does not"
            " take: make the CA with RSA or P-256 (the signing key below it may be"
            " Ed25519), or pin the signing key itself, without a CA"
        )
    _check_ca_key(key)
    return certificate


def named_authority(chain: Sequence[bytes]) -> str | None:
    """Return whose signing certificate the first of a chain says it is.

    Nothing of it is verified: it chooses the CA that is asked.
    """
    certificate = _parsed(chain[:1])
    return None if certificate is None else _only_name(certificate[0], _AUTHORITY)


def named_subscriber(certificate: x509.Certificate) -> str | None:
    """Return whose certificate for receiving seeds this says it is; unverified."""
    return _only_name(certificate, _SUBSCRIBER)


def is_for(certificate: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    """Tell whether a certificate says that it has a purpose, and is no CA's."""
    try:
        extensions = certificate.extensions
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except _MALFORMED:
        return False
    return purpose in usages and not constraints.ca


def verify(
    ca: x509.Certificate,
    chain: Sequence[bytes],
    *,
    purpose: x509.ObjectIdentifier,
    name: x509.GeneralName,
    now: float,
) -> RSAPublicKey | Ed25519PublicKey | None:
    """Return the key that a CA vouches for, or None if it does not.

    Args:
        ca: pinned, see `check_ca`; it must be valid now, too.
        chain: DER, the certificate itself first, then those between it and the CA.
        purpose: the extended key usage that it must have.
        name: the only subject alternative name that it must have.
        now: Unix seconds.
    """
    certificates = _parsed(chain)
    if certificates is None:
        return None
    ca_policy, ee_policy = _policies(purpose)
    builder = (
        verification.PolicyBuilder()
        .store(verification.Store([ca]))
        .time(dt.datetime.fromtimestamp(now, dt.UTC))
        .max_chain_depth(MAX_CHAIN - 1)
        .extension_policies(ca_policy=ca_policy, ee_policy=ee_policy)
    )
    try:
        verified = builder.build_client_verifier().verify(
            certificates[0], certificates[1:]
        )
        # The verifier takes RSA from 2048 bits on, and any curve of NIST.
        for above in verified.chain[1:]:
            _check_ca_key(above.public_key())
        key = public_jwk.check_key(verified.chain[0].public_key())
    except (*_MALFORMED, verification.VerificationError, KeyRefused):
        return None
    if verified.subjects != [name]:
        return None
    return key if isinstance(key, RSAPublicKey | Ed25519PublicKey) else None


def _only_name(certificate: x509.Certificate, beginning: str) -> str | None:
    """Return what follows in the one alternative name, a URI that begins so."""
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except _MALFORMED:
        return None
    names = list(extension.value)
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        return None
    uri = names[0].value
    return uri.removeprefix(beginning) if uri.startswith(beginning) else None


def _policies(
    purpose: x509.ObjectIdentifier,
) -> tuple[ExtensionPolicy, ExtensionPolicy]:
    """Return what the extensions of CAs, and of the certificate itself, must be."""

    def has_purpose(
        _policy: verification.Policy,
        _certificate: x509.Certificate,
        usage: x509.ExtendedKeyUsage,
    ) -> None:
        # By its own name: "any purpose" is what a CA gives without thinking of us.
        if purpose not in usage:
            raise ValueError("the certificate is for another purpose")

    def may_have_purpose(
        policy: verification.Policy,
        certificate: x509.Certificate,
        usage: x509.ExtendedKeyUsage | None,
    ) -> None:
        if usage is not None:
            has_purpose(policy, certificate, usage)

    def signs(
        _policy: verification.Policy,
        _certificate: x509.Certificate,
        usage: x509.KeyUsage,
    ) -> None:
        if purpose == SEED_SIGNING and not usage.digital_signature:
            raise ValueError("the certificate's key is not for signatures")
        if usage.key_cert_sign or usage.crl_sign:
            raise ValueError("the certificate's key signs others")

    ca_policy = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, may_have_purpose
    )
    # What is not said here is as on the web: so a CA is no signer.
    ee_policy = (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, has_purpose)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, signs)
    )
    return ca_policy, ee_policy


def _check_ca_key(key: object) -> None:
    if isinstance(key, RSAPublicKey):
        keypolicy.check_public_key(key)
    elif not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
        key.curve, ec.SECP256R1
    ):
        raise KeyRefused("a CA's key is RSA of 3072 to 8192 bits, or of P-256")


def _parsed(chain: Sequence[bytes]) -> list[x509.Certificate] | None:
    if not 1 <= len(chain) <= MAX_CHAIN:
        return None
    if any(len(der) > MAX_CERTIFICATE_BYTES for der in chain):
        return None
    try:
        return [x509.load_der_x509_certificate(der) for der in chain]
    except _MALFORMED:
        return None
