"""What a container that this service writes says of an account."""

from dataclasses import dataclass, field

from otpseal.secret import Secret


@dataclass(frozen=True, slots=True)
class Token:
    """An account on its way out.

    Attributes:
        account: its id.
        issuer: shown by authenticator apps.
        label: shown by authenticator apps.
        type: "totp" or "hotp".
        algorithm: "SHA1", "SHA256" or "SHA512".
        digits: length of a code.
        period: length of a step in seconds.
        counter: the next one of HOTP.
        drift: steps by which its device is ahead.
        seed: what is encrypted.
    """

    account: str
    issuer: str
    label: str
    type: str
    algorithm: str
    digits: int
    period: int
    counter: int
    drift: int
    seed: Secret = field(repr=False)
