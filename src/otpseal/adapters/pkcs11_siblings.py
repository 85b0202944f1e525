"""Import keys of every age in one token: found by their ids, whatever they are called.

Nothing is made, renamed or removed there: a token's keys are its owner's affair. Which
of them is the active one, the store's record says alone; OTPSEAL_KEY names the one
that it was at the last change of the settings.

Imports python-pkcs11, an optional dependency.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pkcs11
from pkcs11 import exceptions as told

from otpseal.adapters.pkcs11_keys import Pkcs11Keys
from otpseal.adapters.pkcs11_login import log_in
from otpseal.adapters.pkcs11_modules import (
    end_session,
    find_by_kid,
    find_token,
    generation_of,
    initialise_anew,
    loaded_module,
    lock_of,
)
from otpseal.errors import KeyUnavailable
from otpseal.pkcs11_uri import Pkcs11Uri, text_of
from otpseal.ports_key_files import Seam
from otpseal.secret import Secret

_Result = TypeVar("_Result")


class TokenKeys:
    """`otpseal.key_lifecycle.KeyFiles` in one token.

    Args:
        module: the PKCS#11 module, a shared library.
        uri: names the token, and the key that is the active one unless it was
            replaced since.
        pin: the user's PIN, or None if the token needs none.
    """

    def __init__(self, module: Path, uri: Pkcs11Uri, pin: Secret | None) -> None:
        self._module = module
        self._uri = uri
        self._pin = pin

    def held(self) -> AbstractContextManager[None]:
        """See `KeyFiles`; nothing is changed in the token."""
        return contextlib.nullcontext()

    def load(self, kid: str) -> Pkcs11Keys | None:
        """See `KeyFiles`.

        Raises:
            KeyUnavailable: the token cannot be used.
        """
        uri = self._find(kid)
        if uri is None:
            return None
        found = Pkcs11Keys(self._module, uri, self._pin)
        return found if found.kid == kid else None

    def load_current(self, kid: str) -> Pkcs11Keys | None:
        """Return the key that the store's record names; None if it is not here."""
        return self.load(kid)

    def load_next(self) -> None:
        """See `KeyFiles`: no key lies ready unless its public half is in the store."""

    def make_next(self) -> Pkcs11Keys:
        """See `KeyFiles`; refused."""
        raise KeyUnavailable(
            "no next key is prepared: make a key pair with the token's own tools, and"
            " name it by `otpseal keys prepare --key pkcs11:...`"
        )

    def place_of(self, kid: str) -> str | None:
        """Return the URI of a key; None if it is not here."""
        uri = self._find(kid)
        return None if uri is None else text_of(uri)

    def setting_for(self, kid: str) -> str | None:
        """See `KeyFiles`."""
        named = Pkcs11Keys(self._module, self._uri, self._pin)
        return None if named.kid == kid else self.place_of(kid)

    def promote(self, kid: str, reached: Seam) -> bool:  # noqa: ARG002 - as there
        """See `KeyFiles`; there is nothing to do, ever."""
        if self._find(kid) is None:
            raise KeyUnavailable(
                f"the store belongs to the private key {kid}, which is not in the token"
                f" {self._uri.token!r}"
            )
        return False

    def _find(self, kid: str) -> Pkcs11Uri | None:
        return self._asked(lambda session: find_by_kid(session, self._uri, kid))

    def _asked(self, question: Callable[[pkcs11.Session], _Result]) -> _Result:
        module = str(self._module)
        with lock_of(module):
            try:
                with contextlib.suppress(told.PKCS11Error):
                    return self._ask(module, question)
                # The module may have lost its device or its server.
                initialise_anew(module)
                return self._ask(module, question)
            except told.PKCS11Error as error:
                raise KeyUnavailable(
                    f"the token {self._uri.token!r} cannot be used: its module answers"
                    f" {type(error).__name__}"
                ) from None

    def _ask(
        self, module: str, question: Callable[[pkcs11.Session], _Result]
    ) -> _Result:
        try:
            token = find_token(loaded_module(module), self._uri)
        except KeyUnavailable:
            initialise_anew(module)
            token = find_token(loaded_module(module), self._uri)
        opened_in = generation_of(module)
        session = log_in(token, module, self._uri, self._pin)
        try:
            return question(session)
        finally:
            end_session(module, session, opened_in)
