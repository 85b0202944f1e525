"""PKCS#11 modules, tokens and the keys in them: found, or refused with advice.

A module is loaded once per process, whatever uses it, and initialised anew in each
child: a child may not use its parent's (PKCS#11 2.40 section 5.4).

Imports python-pkcs11, an optional dependency.
"""

import contextlib
import os
import threading
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPublicKey,
    RSAPublicNumbers,
)
from pkcs11 import exceptions as told
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType

from otpseal import keypolicy
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.pkcs11_uri import Pkcs11Uri

_initialised_by: dict[str, int] = {}
_module_lock = threading.Lock()


def loaded_module(module: str) -> Any:  # noqa: ANN401 - a class of C
    """Return a PKCS#11 module, initialised in this process.

    Raises:
        KeyUnavailable: there is none at that path, or it does not start.
    """
    with _module_lock:
        if _initialised_by.get(module, os.getpid()) != os.getpid():
            _initialise(module)
        try:
            library = pkcs11.lib(module)
        except (told.PKCS11Error, ValueError) as error:
            why = str(error) or type(error).__name__
            raise KeyUnavailable(
                f"the PKCS#11 module {module} cannot be loaded: {why}"
            ) from None
        _initialised_by[module] = os.getpid()
        return library


def initialise_anew(module: str) -> None:
    """Initialise a module again: every session that this process has on it is lost."""
    with _module_lock:
        _initialise(module)


def _initialise(module: str) -> None:
    library = pkcs11.lib(module)
    with contextlib.suppress(told.PKCS11Error):
        library.finalize()  # fails in a child, where it need not succeed
    library.initialize()


def find_token(library: Any, uri: Pkcs11Uri) -> pkcs11.Token:  # noqa: ANN401 - a class of C
    """Return the only token that the URI names.

    Raises:
        KeyUnavailable: there is none, or more than one.
    """
    found: list[pkcs11.Token] = []
    for slot in library.get_slots(token_present=True):
        with contextlib.suppress(told.TokenNotPresent, told.TokenNotRecognised):
            token = slot.get_token()
            serial = token.serial.decode("utf-8", "replace").rstrip("\0 ")
            wanted = (
                (uri.token, token.label.rstrip("\0 ")),
                (uri.serial, serial),
                (uri.manufacturer, token.manufacturer_id.rstrip("\0 ")),
                (uri.model, token.model.rstrip("\0 ")),
            )
            if all(want in (None, has) for want, has in wanted):
                found.append(token)
    if not found:
        raise KeyUnavailable(
            f"the module in OTPSEAL_PKCS11_MODULE shows no token {uri.token!r}: is it"
            " plugged in, is its server running, may this user reach it?"
        )
    if len(found) > 1:
        raise KeyUnavailable(
            f"{len(found)} tokens are called {uri.token!r}: tell them apart by"
            " serial=, manufacturer= or model= in OTPSEAL_KEY"
        )
    return found[0]


def find_key(session: pkcs11.Session, uri: Pkcs11Uri) -> Any:  # noqa: ANN401 - made by its abilities
    """Return the only private key in the session's token that the URI names.

    Raises:
        KeyUnavailable: there is none, or more than one.
    """
    wanted: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if uri.object is not None:
        wanted[Attribute.LABEL] = uri.object
    if uri.id is not None:
        wanted[Attribute.ID] = uri.id
    found = list(session.get_objects(wanted))
    if not found:
        raise KeyUnavailable(
            f"the token {uri.token!r} shows no private key of that object and id: make"
            " one with the token's own tools, or correct OTPSEAL_KEY; most tokens show"
            " private keys only with a PIN (OTPSEAL_PKCS11_PIN_FILE)"
        )
    if len(found) > 1:
        raise KeyUnavailable(
            f"{len(found)} private keys in the token {uri.token!r} are called so: tell"
            " them apart by id= and object= in OTPSEAL_KEY"
        )
    return found[0]


def public_key_of(key: Any) -> RSAPublicKey:  # noqa: ANN401 - as above
    """Return the public half of a private key in a token.

    Raises:
        KeyRefused: it is not RSA, not acceptable, or not for decrypting and signing.
    """
    if key.key_type != KeyType.RSA:
        raise KeyRefused("the private key in the token is not an RSA key")
    if not (key[Attribute.DECRYPT] and key[Attribute.SIGN]):
        raise KeyRefused(
            "the private key in the token may not be used for both: decrypting and"
            " signing (CKA_DECRYPT, CKA_SIGN)"
        )
    try:
        e = int.from_bytes(key[Attribute.PUBLIC_EXPONENT], "big")
    except told.AttributeTypeInvalid:
        e = keypolicy.PUBLIC_EXPONENT  # the trial shows whether that is so
    n = int.from_bytes(key[Attribute.MODULUS], "big")
    try:
        public_key = RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise KeyRefused("the key in the token has no valid RSA numbers") from None
    return keypolicy.check_public_key(public_key)


def _after_fork_in_child() -> None:
    global _module_lock  # noqa: PLW0603 - its holder may not exist in the child
    _module_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
