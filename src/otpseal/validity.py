"""How long a certificate is valid, and what is said before it is over.

Leaves out: whether it is vouched for (`otpseal.certificate_profile`).
"""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509

from otpseal.errors import CertificateExpired

#: So many days before its end a signing certificate is to be renewed.
RENEW_DAYS: Final = 30

_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Validity:
    """A time in which a certificate counts.

    Attributes:
        since: its first second, Unix time.
        until: its last second, Unix time (RFC 5280 section 4.1.2.5: both inclusive).
    """

    since: float
    until: float

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Return a certificate's own."""
        return cls(
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )

    def includes(self, now: float) -> bool:
        """Tell whether it counts at a Unix time."""
        return self.since <= now <= self.until

    def days_left(self, now: float) -> int:
        """Return how many whole days are left of it; negative once it is over."""
        return math.floor((self.until - now) / _DAY_S)

    def expect(self, now: float) -> None:
        """Refuse to sign by a certificate what every service would refuse.

        Raises:
            CertificateExpired: it does not count now.
        """
        if not self.includes(now):
            raise CertificateExpired(
                f"the signing certificate is valid from {_day(self.since)} to"
                f" {_day(self.until)}, and not now: set the clock right, or run"
                " `otpseal authority renew`. Nothing was sent, and the ticket is as"
                " good as before"
            )


#: Of what has no certificate.
ALWAYS: Final = Validity(-math.inf, math.inf)


def renewal_due(signing: Validity, ca: Validity, now: float) -> str | None:
    """Return what is to be said of a signing certificate and its CA; None if nothing.

    Args:
        signing: of the signing certificate.
        ca: of the CA that issued it.
        now: Unix seconds.
    """
    if signing.days_left(now) >= RENEW_DAYS:
        return None
    said = f"the signing certificate {_ending(signing, now)}"
    if not ca.includes(now):
        return f"{said}, and its CA {_ending(ca, now)}: {NEXT_CA}"
    if ca.until <= signing.until:
        return f"{said}, and its CA with it: {NEXT_CA}"
    return f"{said}: run `otpseal authority renew`"


#: What to do before a CA is over.
NEXT_CA: Final = (
    "move its files away, make another by `otpseal authority init`, and have services"
    " pin it by `otpseal authority trust add --replace`"
)


def _ending(validity: Validity, now: float) -> str:
    if now < validity.since:
        return f"is not valid before {_day(validity.since)}"
    if now > validity.until:
        return f"has expired on {_day(validity.until)}"
    return f"ends in {validity.days_left(now)} days, on {_day(validity.until)}"


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()
