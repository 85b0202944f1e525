"""Which suite an envelope is of, whether it is taken, and what opens it."""

from collections.abc import Callable, Collection

from otpseal import signed_envelope
from otpseal.errors import SuiteRefused
from otpseal.signed_envelope import OpenedEnvelope, PinnedKeys, Unwrap
from otpseal.suite import Suite


class EnvelopeOpener:
    """Opens envelopes of the suites that are switched on.

    Args:
        unwrap: gives the decryption of the import key of a kid, or None.
        accepted: the suites that are taken.
    """

    def __init__(
        self, unwrap: Callable[[str], Unwrap | None], accepted: Collection[Suite]
    ) -> None:
        self._unwrap = unwrap
        self._accepted = frozenset(accepted)

    def open(self, text: str, pinned: PinnedKeys) -> OpenedEnvelope:
        """Open an envelope of a pinned authority.

        Raises:
            SuiteRefused: envelopes of this form are switched off.
            EnvelopeRefused, ClaimsRefused: as `signed_envelope.open_envelope`.
        """
        if Suite.V1 not in self._accepted:
            raise SuiteRefused(
                "envelopes of the suite v1 are switched off; OTPSEAL_ACCEPT_SUITES"
                " would have to name v1"
            )
        return signed_envelope.open_envelope(text, unwrap=self._unwrap, pinned=pinned)


def is_envelope(text: str) -> bool:
    """Tell an envelope, of whichever suite, from a sealed seed of the classic form."""
    # No base64 has a dot.
    return "." in text
