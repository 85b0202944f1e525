"""The keys of a service that an enrolment speaks for.

A request (`otpseal.enrolment_request`) is signed by the import key. The others travel
beside it: the one that receipts are signed by, and the import key of the suite pq. The
request names them, so that its signature covers them: whoever could swap one on the
way would have the next seed sealed to a key of his own.

Leaves out: how a request is read, and what is sealed to which key.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import public_jwk
from otpseal.errors import EnrolmentRefused, KeyRefused
from otpseal.pq_keys import IMPORT_KEY_BYTES, ImportPublicKey

RECEIPT_KEY_BYTES: Final = 32
PQ_KEY_BYTES: Final = IMPORT_KEY_BYTES


@dataclass(frozen=True, slots=True)
class Requested:
    """What a request says.

    Attributes:
        key: the import key, which the request proves to be held.
        challenge: what stands for the ticket.
        named: the kids of the keys that travel beside it.
    """

    key: RSAPublicKey
    challenge: str
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class RequestedKeys:
    """The keys of one service.

    Attributes:
        rsa: the import key.
        receipt: verifies receipts, 32 bytes; None if none is to be taken.
        pq: the import key of the suite pq; None if it takes no such envelope.
    """

    rsa: RSAPublicKey
    receipt: bytes | None
    pq: ImportPublicKey | None


def bound(
    requested: Requested, *, receipt_key: bytes | None, pq_key: bytes | None
) -> RequestedKeys:
    """Return a request's keys if it names exactly those that came beside it.

    A key that it names and that is missing was taken away on the way: without its
    receipt key a service could never confirm what its ticket brought.

    Args:
        requested: what the signed request says.
        receipt_key: raw Ed25519 key, 32 bytes.
        pq_key: raw import key of the suite pq, 1216 bytes.

    Raises:
        EnrolmentRefused: no keys, weak ones, or others than are named.
    """
    kids = set()
    pq = None
    try:
        if receipt_key is not None:
            ed25519 = Ed25519PublicKey.from_public_bytes(receipt_key)
            kids.add(public_jwk.thumbprint(public_jwk.check_key(ed25519)))
        if pq_key is not None:
            pq = ImportPublicKey(pq_key)
            kids.add(pq.kid)
    except (ValueError, UnsupportedAlgorithm, KeyRefused):
        raise EnrolmentRefused from None
    if kids != requested.named:
        raise EnrolmentRefused
    return RequestedKeys(requested.key, receipt_key, pq)
