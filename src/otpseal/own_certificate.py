"""Whether what an authority gave at enrolment is a certificate of our import key.

It comes beside the envelope, signed by nobody but its issuer: who stands between, or
an authority that errs, could give any other.

Leaves out: whether it is revoked; see `otpseal.certificate_profile`.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal.certificate_profile import (
    SEED_RECEIVING,
    is_for,
    named_subscriber,
    subscriber_uri,
    verify,
)
from otpseal.errors import KeyRefused
from otpseal.seed_claims import is_authority_name


def check(
    text: str, *, key: RSAPublicKey, ca: x509.Certificate | None, now: float
) -> bytes:
    """Return the certificate as it may be kept: one, in PEM form, and nothing else.

    Args:
        text: what the authority gave.
        key: the import key that it must be of.
        ca: by which the authority is pinned; None if it is pinned by its keys, and
            then nobody has checked who issued the certificate.
        now: Unix seconds.

    Raises:
        KeyRefused: says why not, without a word of the certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(text.encode("ascii"))
        found = certificate.public_key()
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise KeyRefused("it is no certificate in PEM form") from None
    if (
        not isinstance(found, RSAPublicKey)
        or found.public_numbers() != key.public_numbers()
    ):
        raise KeyRefused("it is of another key than this service's import key")
    if not since.timestamp() <= now <= until.timestamp():
        raise KeyRefused("it has expired, or is not valid yet")
    if not is_for(certificate, SEED_RECEIVING):
        raise KeyRefused("it is not for receiving seeds")
    name = named_subscriber(certificate)
    if name is None or not is_authority_name(name):
        raise KeyRefused("it does not name a subscriber, and nothing else")
    if ca is not None:
        der = certificate.public_bytes(serialization.Encoding.DER)
        uri = subscriber_uri(name)
        if verify(ca, [der], purpose=SEED_RECEIVING, name=uri, now=now) is None:
            raise KeyRefused("the CA that the authority is pinned by did not issue it")
    return certificate.public_bytes(serialization.Encoding.PEM)
