"""The yearly renewal of an authority's signing certificate, with a new key if wanted.

The order is: the new files are laid ready, whole; the audit event is committed; the
files take their places. So no certificate is ever used that no event tells of. The
price is an event whose certificate was never used, if the process ends between the
two: the event says that the CA issued it, which is so. The next renewal takes away
what lay ready, issues another and records that.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from otpseal import certificate_profile, certificates, public_jwk
from otpseal.adapters import signing_files, signing_swap
from otpseal.adapters.file_keys import generate_private_key
from otpseal.adapters.private_files import change_explained, held, replace_file
from otpseal.adapters.signing_files import CA_KEY_NAME, SigningFiles, SigningKey
from otpseal.adapters.signing_swap import Seam, Step, unseen
from otpseal.audit import Detail, Event, Kind
from otpseal.certificate_profile import SEED_SIGNING, authority_uri
from otpseal.certificates import Issuer
from otpseal.config import Settings
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.ledger import Ledger, rfc3339
from otpseal.ports import Clock
from otpseal.unlocking import Opened
from otpseal.validity import NEXT_CA, Validity
from otpseal.wiring_authority import (
    JWKS_NAME,
    SIGNING_KEY_BITS,
    jwks,
    load_signing,
    signing_directory,
)
from otpseal.wiring_pq import load_pq, pq_public_keys


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a renewal did.

    Attributes:
        kid: of the signing key.
        valid: when its certificate counts.
        ca: when the CA counts.
        jwks: where what services pin was written.
    """

    kid: str
    valid: Validity
    ca: Validity
    jwks: Path


def renew(
    opened: Opened,
    settings: Settings,
    *,
    new_key: bool = False,
    ca_key_file: Path | None = None,
    clock: Clock = time.time,
    reached: Seam = unseen,
) -> Renewed:
    """Have the CA issue a signing certificate that takes the place of the one before.

    Also finishes a renewal that was interrupted. The new certificate lasts a year,
    but no longer than the CA's own.

    Args:
        opened: the authority's store.
        settings: name and place.
        new_key: whether a new key of the same kind is made for it.
        ca_key_file: the CA's private key; None if it is beside the others.
        clock: gives the Unix time.
        reached: told of each step.

    Raises:
        KeyUnavailable, KeyRefused: a file is not there, not what it should be, or
            cannot be replaced; says what to do.
        StoreUnavailable: nothing was recorded, and nothing replaced.
    """
    directory, passphrase = signing_directory(settings), settings.key_passphrase()
    with held(directory):
        before = load_signing(settings)
        if before is None:
            raise KeyUnavailable(
                "this authority has no signing key yet: `otpseal authority init` makes"
                " it, and its certificate"
            )
        signing_swap.settle(directory, passphrase)
        files = _reissued(
            before, settings, new_key=new_key, ca_key_file=ca_key_file, now=clock()
        )
        signing_swap.lay_ready(
            directory, files, passphrase, new_key=new_key, reached=reached
        )
        try:
            _record(opened, files, new_key=new_key, now=clock())
        except BaseException:
            signing_swap.withdraw(directory)
            raise
        reached(Step.RECORDED)
        signing_swap.promote(directory, new_key=new_key, reached=reached)
        pair = pq_public_keys(load_pq(settings))
        key_set = jwks([files.key.public_key(), *pair])
        content = json.dumps(key_set, indent=2).encode("ascii") + b"\n"
        with change_explained(directory):
            replace_file(directory / JWKS_NAME, content, mode=0o644)
    return Renewed(
        kid=public_jwk.thumbprint(files.key.public_key()),
        valid=Validity.of(files.certificate),
        ca=Validity.of(files.ca_certificate),
        jwks=directory / JWKS_NAME,
    )


def _reissued(
    before: SigningFiles,
    settings: Settings,
    *,
    new_key: bool,
    ca_key_file: Path | None,
    now: float,
) -> SigningFiles:
    ca, name = before.ca_certificate, settings.authority_name
    place = signing_directory(settings) / CA_KEY_NAME
    ca_key = before.ca_key
    if ca_key_file is not None:
        ca_key = signing_files.load_ca_key(ca_key_file, settings.key_passphrase(), ca)
    if ca_key is None:
        raise KeyUnavailable(
            f"the CA's private key is not at {place}: bring it here for as long as this"
            " takes, and name it by --ca-key FILE"
        )
    if not Validity.of(ca).includes(now):
        raise KeyRefused(
            f"the CA certificate is not valid now: set the clock right, or {NEXT_CA}"
        )
    key = _another(before.key) if new_key else before.key
    certificate = Issuer(ca, ca_key).issue_signing(name, key.public_key(), now=now)
    vouched_for = certificate_profile.verify(
        ca,
        [certificates.der(certificate)],
        purpose=SEED_SIGNING,
        name=authority_uri(name),
        now=now,
    )
    # A certificate that services refuse must not take the place of one they believe.
    if vouched_for is None:
        raise KeyRefused(
            "services would not believe what this CA issues, and nothing was replaced:"
            f" {NEXT_CA}"
        )
    return replace(before, key=key, certificate=certificate)


def _another(key: SigningKey) -> SigningKey:
    if isinstance(key, RSAPrivateKey):
        return generate_private_key(SIGNING_KEY_BITS)
    return Ed25519PrivateKey.generate()


def _record(opened: Opened, files: SigningFiles, *, new_key: bool, now: float) -> None:
    detail: Detail = {
        "kid": public_jwk.thumbprint(files.key.public_key()),
        "new_key": int(new_key),
        "serial": f"{files.certificate.serial_number:x}",
        "until": rfc3339(Validity.of(files.certificate).until),
    }
    with opened.store.transaction() as tx:
        event = Event(Kind.CERTIFICATE_RENEWED, now, detail=detail)
        Ledger(tx, opened.storage_key).record(event)
