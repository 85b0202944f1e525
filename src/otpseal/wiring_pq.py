"""Settings -> what an authority signs envelopes of the suite pq with.

Beside `otpseal.wiring_authority`: its signing key is one, whatever `--ps256` says, and
may be replaced; this pair is another, and signs envelopes of its suite alone.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from otpseal.adapters import pq_signing_file
from otpseal.config import Settings
from otpseal.pq_keys import PqSigner
from otpseal.public_jwk import VerifyingKey
from otpseal.wiring_authority import signing_directory


def refuse_pq(settings: Settings) -> None:
    """Check that the authority has no pair yet: before anything else is made.

    Raises:
        KeyUnavailable: names the file that exists.
    """
    pq_signing_file.refuse_existing(signing_directory(settings))


def initialise_pq(settings: Settings) -> PqSigner:
    """Make and write the authority's signing pair of the suite pq.

    Raises:
        KeyUnavailable: there is one, or it cannot be written.
    """
    signer = PqSigner(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
    directory = signing_directory(settings)
    pq_signing_file.write(directory, signer, settings.key_passphrase())
    return signer


def load_pq(settings: Settings) -> PqSigner | None:
    """Load the pair; None if it was never made.

    Raises:
        KeyUnavailable, KeyRefused: says why it cannot be loaded.
    """
    directory = signing_directory(settings)
    if not pq_signing_file.exists(directory):
        return None
    return pq_signing_file.load(directory, settings.key_passphrase())


def pq_public_keys(signer: PqSigner | None) -> list[VerifyingKey]:
    """Return what services pin of a pair: both halves, or none."""
    if signer is None:
        return []
    return [signer.ed25519.public_key(), signer.ml_dsa.public_key()]
