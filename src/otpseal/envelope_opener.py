"""Which suite an envelope is of, whether it is taken, and what opens it."""

from collections.abc import Callable, Collection

from otpseal import pq_envelope, signed_envelope
from otpseal.errors import SuiteRefused
from otpseal.pq_keys import ImportKey
from otpseal.signed_envelope import OpenedEnvelope, PinnedKeys, Unwrap
from otpseal.suite import Suite


class EnvelopeOpener:
    """Opens envelopes of the suites that are switched on.

    Args:
        unwrap: gives the decryption of the RSA import key of a kid, or None.
        pq_key: gives the import key of the suite pq of a kid, or None.
        accepted: the suites that are taken.
    """

    def __init__(
        self,
        unwrap: Callable[[str], Unwrap | None],
        pq_key: Callable[[str], ImportKey | None],
        accepted: Collection[Suite],
    ) -> None:
        self._unwrap = unwrap
        self._pq_key = pq_key
        self._accepted = frozenset(accepted)

    def open(self, text: str, pinned: PinnedKeys) -> OpenedEnvelope:
        """Open an envelope of a pinned authority.

        Raises:
            SuiteRefused: envelopes of this form are switched off.
            EnvelopeRefused, ClaimsRefused: as `signed_envelope.open_envelope`.
        """
        suite = Suite.PQ if pq_envelope.is_pq(text) else Suite.V1
        if suite not in self._accepted:
            raise SuiteRefused(
                f"envelopes of the suite {suite} are switched off;"
                f" OTPSEAL_ACCEPT_SUITES would have to name {suite}"
            )
        if suite is Suite.PQ:
            return pq_envelope.open_envelope(text, unwrap=self._pq_key, pinned=pinned)
        return signed_envelope.open_envelope(text, unwrap=self._unwrap, pinned=pinned)


def is_envelope(text: str) -> bool:
    """Tell an envelope, of whichever suite, from a sealed seed of the classic form."""
    # No base64 has a dot.
    return "." in text
