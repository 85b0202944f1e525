"""Where import keys are looked for: in the place that OTPSEAL_KEY names, and besides.

A key is looked for by its id in the token of OTPSEAL_KEY or among the files beside it,
then in that of OTPSEAL_OTHER_KEY, which is set while one place takes over from another.
Places are settings and never in the database: who writes that must not choose which
token is shown our PIN, or which file is read.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from otpseal.adapters.key_siblings import Searching, SiblingKeys, unannounced
from otpseal.config import Settings
from otpseal.errors import KeyUnavailable, OtpsealError
from otpseal.key_source import load_from_token, token_module, token_pin
from otpseal.pkcs11_uri import Pkcs11Uri, parse
from otpseal.ports import Keys
from otpseal.ports_key_files import KeyFiles, Seam

SERVICE_KEY_BITS: Final = 4096


class Place(KeyFiles, Protocol):
    """One place; `otpseal.adapters` has files beside one another, and a token."""

    def load_current(self, kid: str) -> Keys | None:
        """Return the key that the store's record names; None if it is not here."""

    def place_of(self, kid: str) -> str | None:
        """Return where exactly a key is, in words for people; None if not here."""


class KeyPlaces:
    """`otpseal.key_lifecycle.KeyFiles` in one place or two.

    Args:
        first: where OTPSEAL_KEY is.
        other: where OTPSEAL_OTHER_KEY is, if it is set.
    """

    def __init__(self, first: Place, other: Place | None = None) -> None:
        self._first = first
        self._other = other

    def held(self) -> AbstractContextManager[None]:
        """See `KeyFiles`."""
        return self._first.held()

    def load(self, kid: str) -> Keys | None:
        """See `KeyFiles`."""
        if self._other is None:
            return self._first.load(kid)
        try:
            found = self._first.load(kid)
        except OtpsealError:
            # One place that cannot be reached must not hide what is in the other.
            if (found := self._other.load(kid)) is None:
                raise
            return found
        return self._other.load(kid) if found is None else found

    def load_current(self, kid: str) -> Keys | None:
        """Return the key that the store's record names; None if it is not here."""
        found = self._first.load_current(kid)
        if found is None and self._other is not None:
            return self._other.load_current(kid)
        return found

    def load_next(self) -> Keys | None:
        """See `KeyFiles`."""
        return self._first.load_next()

    def make_next(self) -> Keys:
        """See `KeyFiles`."""
        return self._first.make_next()

    def place_of(self, kid: str) -> str | None:
        """Return where exactly a key is, a path or a URI; None if it is nowhere."""
        found = self._first.place_of(kid)
        if found is None and self._other is not None:
            return self._other.place_of(kid)
        return found

    def setting_for(self, kid: str) -> str | None:
        """See `KeyFiles`."""
        if self._other is None or self._first.load_current(kid) is not None:
            return self._first.setting_for(kid)
        return self._other.place_of(kid)

    def promote(self, kid: str, reached: Seam) -> bool:
        """See `KeyFiles`."""
        try:
            return self._first.promote(kid, reached)
        except KeyUnavailable:
            if self._other is None or self._other.place_of(kid) is None:
                raise
            return False


def key_places(
    settings: Settings, name: str, *, searching: Searching = unannounced
) -> KeyPlaces:
    """Return where the import keys are.

    Args:
        settings: name the places.
        name: of the file in the data directory, if they do not say.
        searching: entered while a key of that many bits is made.

    Raises:
        ConfigurationError: the settings contradict each other, or one is missing.
    """
    first = settings.key_uri() or settings.key_path(name)
    other = settings.other_key_place()
    return KeyPlaces(
        _place(settings, first, searching),
        None if other is None else _place(settings, other, searching),
    )


def load_named(settings: Settings, text: str) -> Keys:
    """Load the key in a token that somebody named on the command line.

    Raises:
        ConfigurationError: it is no PKCS#11 URI, or a setting is missing.
        KeyUnavailable, KeyRefused: of the key.
    """
    return load_from_token(settings, parse(text, "--key"))


def _place(settings: Settings, place: Pkcs11Uri | Path, searching: Searching) -> Place:
    if isinstance(place, Path):
        return SiblingKeys(
            place,
            settings.key_passphrase(),
            bits=SERVICE_KEY_BITS,
            searching=searching,
        )
    module = token_module(settings)
    # Optional, as `token_module` has found out that it is there.
    from otpseal.adapters.pkcs11_siblings import TokenKeys  # noqa: PLC0415

    return TokenKeys(module, place, token_pin(settings))
