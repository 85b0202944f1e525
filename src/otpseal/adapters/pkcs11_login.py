"""Logging in to a token: a PIN that was refused is not tried again in this process.

Tokens lock themselves after a few wrong PINs, and a service may look for several keys
in one token, again and again.

Imports python-pkcs11, an optional dependency.
"""

from typing import Final

import pkcs11
from pkcs11 import exceptions as told

from otpseal.errors import KeyUnavailable
from otpseal.pkcs11_uri import Pkcs11Uri
from otpseal.secret import Secret

_PIN_REFUSED: Final = (
    told.PinIncorrect,
    told.PinInvalid,
    told.PinLenRange,
    told.PinLocked,
    told.PinExpired,
)

#: The PIN that was refused, by module and the token's label.
_refused: dict[tuple[str, str], Secret] = {}


def log_in(
    token: pkcs11.Token, module: str, uri: Pkcs11Uri, pin: Secret | None
) -> pkcs11.Session:
    """Open a session, logged in if there is a PIN.

    Raises:
        KeyUnavailable: the PIN is refused, or was.
        pkcs11.exceptions.PKCS11Error: the token does not open a session.
    """
    if pin is None:
        return token.open()
    if is_refused(module, uri, pin):
        raise KeyUnavailable("the PIN was refused before and is not tried again")
    try:
        return token.open(user_pin=pin.reveal().decode("utf-8"))
    except told.UserAlreadyLoggedIn:
        # The login belongs to the process, not to the session.
        return token.open()
    except (*_PIN_REFUSED, UnicodeDecodeError) as error:
        _refused[module, uri.token] = pin
        raise KeyUnavailable(
            f"the token {uri.token!r} refuses the PIN in"
            f" OTPSEAL_PKCS11_PIN_FILE ({type(error).__name__}): correct it before"
            " trying again, tokens lock themselves after a few wrong ones"
        ) from None


def is_refused(module: str, uri: Pkcs11Uri, pin: Secret | None) -> bool:
    """Tell whether the token refused this PIN since the process started."""
    return pin is not None and _refused.get((module, uri.token)) == pin
