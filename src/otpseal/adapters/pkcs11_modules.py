"""PKCS#11 modules, tokens and the keys in them: found, or refused with advice.

A module is loaded once per process, whatever uses it, and initialised anew in each
child: a child may not use its parent's (PKCS#11 2.40 section 5.4). Whoever uses it
holds its lock: nobody may be inside while it is initialised anew (section 5.4, too).

Imports python-pkcs11, an optional dependency.
"""

import contextlib
import os
import threading
from dataclasses import replace
from typing import Any, NamedTuple

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
_locks: dict[str, threading.Lock] = {}
_generations: dict[str, "Generation"] = {}


def lock_of(module: str) -> threading.Lock:
    """Return the lock under which a module is used in this process."""
    with _module_lock:
        return _locks.setdefault(module, threading.Lock())


class Generation(NamedTuple):
    """How often a module was initialised, and its sessions were logged out.

    Handles of another generation are worth nothing, and may be those of other keys.
    """

    initialised: int = 0
    logged_out: int = 0


def generation_of(module: str) -> Generation:
    """Return the generation of the handles that a module gives out now."""
    return _generations.get(module, Generation())


def end_session(
    module: str,
    session: Any,  # noqa: ANN401 - a class of C
    opened_in: Generation,
) -> None:
    """Close a session, and log out if it was this one that logged in.

    Args:
        module: whose session it is.
        session: open or not.
        opened_in: the module's generation then.
    """
    now = generation_of(module)
    if now.initialised != opened_in.initialised:
        return  # it is closed, and its number may be another session's
    if session.user_type != pkcs11.UserType.NOBODY:
        # The logout is the whole process's (PKCS#11 2.40 section 5.6).
        _generations[module] = now._replace(logged_out=now.logged_out + 1)
    with contextlib.suppress(told.PKCS11Error):
        session.close()


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
    now = generation_of(module)
    _generations[module] = now._replace(initialised=now.initialised + 1)
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
            " one with the token's own tools, or correct OTPSEAL_KEY, which names the"
            " new key after `keys rotate`; most tokens show"
            " private keys only with a PIN (OTPSEAL_PKCS11_PIN_FILE)"
        )
    if len(found) > 1:
        raise KeyUnavailable(
            f"{len(found)} private keys in the token {uri.token!r} are called so: tell"
            " them apart by id= and object= in OTPSEAL_KEY"
        )
    return found[0]


def find_by_kid(session: pkcs11.Session, uri: Pkcs11Uri, kid: str) -> Pkcs11Uri | None:
    """Return what the key of that kid in a token is called; None if it isn't there.

    Keys that the policy refuses, or that are for something else, are passed over.

    Args:
        session: logged in to the token.
        uri: names the token.
        kid: RFC 7638 thumbprint.

    Raises:
        KeyUnavailable: it is there more than once, or has neither label nor id.
    """
    found: list[Any] = []
    every = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KeyType.RSA}
    for key in list(session.get_objects(every)):
        with contextlib.suppress(
            KeyRefused, told.AttributeTypeInvalid, told.AttributeSensitive
        ):
            if keypolicy.key_id(public_key_of(key)) == kid:
                found.append(key)
    if not found:
        return None
    if len(found) > 1:
        raise KeyUnavailable(
            f"the token {uri.token!r} has {len(found)} copies of the key {kid}: remove"
            " all but one"
        )
    label, key_id = found[0].label, found[0].id
    if not (label or key_id):
        raise KeyUnavailable(
            f"the key {kid} in the token {uri.token!r} has neither label nor id: give"
            " it one"
        )
    return replace(uri, object=label or None, id=key_id or None)


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
    _locks.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
