"""Where private keys lie, as the life of import keys sees it.

`otpseal.adapters.key_siblings` has files, `otpseal.adapters.pkcs11_siblings` a token,
and `otpseal.key_places` what the settings name; the steps are where tests interrupt it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol

from otpseal.ports import Keys


class Step(StrEnum):
    """The points between which a rotation can be interrupted."""

    MADE = "made"
    WRITTEN = "written"
    COMMITTED = "committed"
    KEPT = "kept"
    RENAMED = "renamed"
    PUBLIC_KEPT = "public-kept"


#: Told of each step when it is done; for tests, which kill the process there.
Seam = Callable[[Step], None]


def unseen(_step: Step) -> None:
    """Do nothing at a step."""


class KeyFiles(Protocol):
    """Where private keys lie."""

    def held(self) -> AbstractContextManager[None]:
        """Let no other process of this machine change the keys meanwhile."""

    def load(self, kid: str) -> Keys | None:
        """Return the key of that kid, whatever became of it; None if it isn't here."""

    def load_next(self) -> Keys | None:
        """Return the key that lies ready, if one does."""

    def make_next(self) -> Keys:
        """Make a key and lay it ready; takes seconds."""

    def setting_for(self, kid: str) -> str | None:
        """Return what OTPSEAL_KEY must say now that the active key is `kid`.

        None if it is right as it is, or the files follow by themselves.
        """

    def promote(self, kid: str, reached: Seam) -> bool:
        """Let the files follow the store, whose active key is `kid`.

        Safe to repeat after an interruption at any point. Returns whether there was
        anything to do.

        Raises:
            KeyUnavailable: the key of that kid is not here.
        """
