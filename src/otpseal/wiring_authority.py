"""Settings -> what an authority answers its subscribers with.

As `otpseal.wiring`, whose `open_authority` gives the store that these work on.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import certificate_profile, certificates, public_jwk
from otpseal.adapters import signing_files
from otpseal.adapters.file_keys import generate_private_key
from otpseal.adapters.signing_files import SigningFiles, SigningKey
from otpseal.certificates import Issuer
from otpseal.config import PinnedBy, Settings
from otpseal.enrolment import Certify, EnrolmentDesk, Identity
from otpseal.enrolment_request import read
from otpseal.errors import ConfigurationError
from otpseal.ports import Clock
from otpseal.public_jwk import VerifyingKey
from otpseal.signed_envelope import Signer
from otpseal.subscribers import SubscriberBook
from otpseal.unlocking import AUTHORITY_KEY_NAME, Opened
from otpseal.validity import ALWAYS, Validity

#: Size of RSA keys that sign: as strong as P-256 and Ed25519.
SIGNING_KEY_BITS: Final = 3072

#: Where what services pin is written, beside the keys.
JWKS_NAME: Final = "authority_jwks.json"


def signing_directory(settings: Settings) -> Path:
    """Return where the authority's signing files are: beside its RSA key."""
    return settings.key_path(AUTHORITY_KEY_NAME).parent


def initialise(
    settings: Settings, *, ps256: bool, rsa_ca: bool, clock: Clock = time.time
) -> SigningFiles:
    """Make and write the authority's signing key, its CA and their certificates.

    Args:
        settings: name and place.
        ps256: an RSA-3072 signing key, for PS256; else Ed25519.
        rsa_ca: an RSA-3072 CA; else P-256. Never Ed25519: the verifier of
            certificates knows no such CA.
        clock: gives the Unix time.

    Raises:
        KeyUnavailable: there is one of the files, or they cannot be written.
    """
    directory = signing_directory(settings)
    signing_files.refuse_existing(directory)
    passphrase = settings.key_passphrase()
    now, name = clock(), settings.authority_name
    key: SigningKey = (
        generate_private_key(SIGNING_KEY_BITS)
        if ps256
        else Ed25519PrivateKey.generate()
    )
    ca_key = (
        generate_private_key(SIGNING_KEY_BITS)
        if rsa_ca
        else ec.generate_private_key(ec.SECP256R1())
    )
    ca_certificate = certificates.make_ca(name, ca_key, now=now)
    certificate = Issuer(ca_certificate, ca_key).issue_signing(
        name, key.public_key(), now=now
    )
    files = SigningFiles(key, certificate, ca_certificate, ca_key)
    signing_files.write(directory, files, passphrase)
    return files


def load_signing(settings: Settings) -> SigningFiles | None:
    """Load the authority's signing files; None if it was never initialised.

    Raises:
        KeyUnavailable, KeyRefused: says which file, and why.
        ConfigurationError: they were made for an authority of another name.
    """
    directory = signing_directory(settings)
    if not signing_files.exist(directory):
        return None
    files = signing_files.load(directory, settings.key_passphrase())
    name = certificate_profile.named_authority([certificates.der(files.certificate)])
    if name != settings.authority_name:
        raise ConfigurationError(
            f"OTPSEAL_AUTHORITY_NAME is {settings.authority_name!r}, but the signing"
            f" certificate was made for {name!r}: services pinned that name"
        )
    return files


def make_desk(
    opened: Opened,
    settings: Settings,
    files: SigningFiles,
    *,
    clock: Clock = time.time,
) -> EnrolmentDesk:
    """Return what answers subscribers."""
    by_ca = settings.authority_pinned_by is PinnedBy.CA
    chain = (certificates.der(files.certificate),) if by_ca else ()
    identity = Identity(
        name=settings.authority_name,
        signer=Signer(files.key, chain),
        certify=_certify(files),
        valid=Validity.of(files.certificate) if by_ca else ALWAYS,
    )
    return EnrolmentDesk(
        opened.store,
        opened.storage_key,
        clock,
        identity=identity,
        read_request=read,
    )


def make_book(opened: Opened, *, clock: Clock = time.time) -> SubscriberBook:
    """Return what admits subscribers."""
    return SubscriberBook(opened.store, opened.storage_key, clock)


def jwks(keys: Sequence[VerifyingKey]) -> dict[str, Any]:
    """Return public signing keys as a JWK Set (RFC 7517 section 5)."""
    return {"keys": [_jwk(key) for key in keys]}


def _jwk(key: VerifyingKey) -> dict[str, str]:
    algorithm = "PS256" if isinstance(key, RSAPublicKey) else "Ed25519"
    return {
        **public_jwk.canonical(key),
        "kid": public_jwk.thumbprint(key),
        "use": "sig",
        "alg": algorithm,
    }


def _certify(files: SigningFiles) -> Certify | None:
    if files.ca_key is None:
        return None
    issuer = Issuer(files.ca_certificate, files.ca_key)

    def certify(key: RSAPublicKey, subscriber: str, now: float) -> str:
        made = issuer.issue_subscriber(subscriber, key, now=now)
        return certificates.pem(made).decode("ascii")

    return certify
