"""Who may have seeds from an authority: subscribers, one-time tickets, what was sent.

A ticket lets one subscriber enrol one account, once, for a day. It rests as SHA-256
of its text, and the service sends no more than that: the ticket itself is never on
the wire, and a request that is repeated by somebody else still asks for a seed sealed
to the service's key. 256 random bits need no slow hash.

Leaves out: where these rest, and how an enrolment is answered
(`otpseal.enrolment`).
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from otpseal import base64url
from otpseal.errors import CapacityReached, EnrolmentRefused, ParametersRefused
from otpseal.secret import Secret
from otpseal.seed_claims import MAX_SEQUENCE, is_authority_name
from otpseal.suite import Suite
from otpseal.totp import CLASSIC, OtpType, Parameters

TICKET_PREFIX: Final = "otpticket_"  # what secret scanners look for
TICKET_BYTES: Final = 32
TICKET_LIFETIME_S: Final = 86_400

#: From `iat` to `exp` of an envelope, in seconds: longer than a ticket, so that a
#: repeated answer is never a stale one.
ENVELOPE_LIFETIME_S: Final = 7 * 86_400

#: What a ticket can be for.
SUITES: Final = (Suite.V1, Suite.PQ)

#: RFC 4226 section 4, R6, and RFC 6238 section 5.1: as long as the hash.
SEED_BYTES: Final = {"SHA1": 20, "SHA256": 32, "SHA512": 64}

_TICKET: Final = re.compile(TICKET_PREFIX.encode() + rb"[A-Za-z0-9_-]{43}")
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PARAMETERS: Final = re.compile(
    r"(totp|hotp),(SHA1|SHA256|SHA512),([0-9]),([0-9]{1,3}),([01])", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A service, or who runs it.

    Attributes:
        id: 1 to 64 of a-z, 0-9 and . _ -, beginning with a letter or digit.
        created_at: Unix seconds.
        revoked_at: Unix seconds, or None.
    """

    id: str
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket as it rests.

    Attributes:
        digest: see `resting`.
        subscriber: whose it is.
        account: the account that it is for.
        expires_at: Unix seconds.
        parameters: of the seed that will be made.
        issuer: shown by authenticator apps.
        label: shown by authenticator apps.
        kid: the key that took it; None while it is unused.
        answer: what was answered then.
        suite: the form that its envelope will have.
    """

    digest: bytes
    subscriber: str
    account: str
    expires_at: float
    parameters: Parameters = CLASSIC
    issuer: str = ""
    label: str = ""
    kid: str | None = None
    answer: str | None = None
    suite: Suite = Suite.V1


@dataclass(frozen=True, slots=True)
class IssuedEnvelope:
    """An envelope that was sent, and what came back.

    Attributes:
        jti: its id.
        subscriber: who asked for it.
        account: the account that its seed is for.
        kid: the import key that it is sealed to.
        sequence: its `seq`.
        digest: SHA-256 of its text.
        sealed_seed: the seed under the authority's storage key, bound to `place`.
        nonce: the authority's, 16 bytes.
        issued_at: Unix seconds.
        receipt_key: Ed25519 public key that its receipt is signed by, 32 bytes; None
            if the service named none.
        receipt: the receipt, once one verified.
        confirmed_at: when that was, in Unix seconds.
        suite: its form.
    """

    jti: str
    subscriber: str
    account: str
    kid: str
    sequence: int
    digest: bytes
    sealed_seed: bytes = field(repr=False)
    nonce: bytes
    issued_at: float
    receipt_key: bytes | None = None
    receipt: str | None = None
    confirmed_at: float | None = None
    suite: Suite = Suite.V1

    @property
    def place(self) -> str:
        """What the seed at rest is bound to."""
        return envelope_place(self.jti, self.account, self.kid)


def envelope_place(jti: str, account: str, kid: str) -> str:
    """Return what the seed of an envelope is bound to at rest; no part has a blank."""
    return f"envelope {jti} {account} {kid}"


def is_subscriber(text: str) -> bool:
    """Tell whether `text` is a subscriber's id."""
    return is_authority_name(text)


def new_ticket(random: bytes) -> Secret:
    """Return the ticket of `TICKET_BYTES` random bytes: prefix, then base64url."""
    if len(random) != TICKET_BYTES:
        raise ValueError(f"a ticket has {TICKET_BYTES} random bytes")
    return Secret(f"{TICKET_PREFIX}{base64url.encode(random)}".encode("ascii"))


def ticket_digest(ticket: Secret) -> bytes | None:
    """Return what a ticket is known by; None if it is no ticket of an otpseal."""
    text = ticket.reveal()
    if not _TICKET.fullmatch(text):
        return None
    return hashlib.sha256(text).digest()


def resting(digest: bytes) -> bytes:
    """Return what a ticket's digest rests as.

    Hashed once more: the digest itself is what a request shows, so that whoever read
    it in the store could enrol with tickets that nobody used yet.
    """
    return hashlib.sha256(digest).digest()


def challenge_of(digest: bytes) -> str:
    """Return a ticket's digest as a request carries it: base64url, no padding."""
    return base64url.encode(digest)


def digest_of(challenge: str) -> bytes | None:
    """Return the digest in a challengePassword: base64url or hex; None if it is none.

    Hex is for who makes the request by hand (`sha256sum`, `openssl req`).
    """
    if _HEX_DIGEST.fullmatch(challenge):
        return bytes.fromhex(challenge)
    try:
        digest = base64url.decode(challenge)
    except ValueError:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None


def admit(
    ticket: Ticket | None, subscriber: Subscriber | None, kid: str, now: float
) -> Ticket:
    """Return the ticket if the key of `kid` may use it, for the first time or again.

    Raises:
        EnrolmentRefused: unknown, expired, revoked or taken by another key; which of
            them is not told.
    """
    if (
        ticket is None
        or subscriber is None
        or subscriber.id != ticket.subscriber
        or subscriber.revoked_at is not None
        or ticket.expires_at <= now
        or ticket.kid not in {None, kid}
    ):
        raise EnrolmentRefused
    return ticket


def next_sequence(last: int | None, now: float) -> int:
    """Return a `seq` greater than every earlier one of the account.

    Milliseconds of the Unix time where that rises: so an authority whose store was
    restored from an older backup is still ahead of what it sent since.

    Raises:
        CapacityReached: there is no greater one.
    """
    sequence = max(int(now * 1000), 1 if last is None else last + 1)
    if sequence > MAX_SEQUENCE:
        raise CapacityReached("the account's sequence numbers are used up")
    return sequence


def parse_parameters(canonical: str) -> Parameters:
    """Return the parameters of `Parameters.canonical`.

    Raises:
        ParametersRefused: these are none.
    """
    found = _PARAMETERS.fullmatch(canonical)
    if found is None:
        raise ParametersRefused("these are no parameters")
    kind, algorithm, digits, period, window = found.groups()
    parameters = Parameters(
        algorithm, int(digits), int(period), OtpType(kind), int(window)
    )
    parameters.check()
    return parameters
