"""RSA keys in a PKCS#11 token: the private half never leaves it.

One session, used under the module's lock: PKCS#11 allows one operation at a time in a
session. A session that is lost (the token was unplugged, its server restarted, somebody
logged out) is opened again and the operation repeated, once. After a fork everything
is opened anew: a child may not use its parent's sessions (PKCS#11 2.40 section 5.4).

Imports python-pkcs11, an optional dependency: import this module where it is needed.
"""

import hashlib
import logging
import os
import secrets
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pkcs11
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPublicKey,
)
from pkcs11 import exceptions as told
from pkcs11.constants import Attribute
from pkcs11.mechanisms import MGF, Mechanism

from otpseal import keypolicy
from otpseal.adapters.pkcs11_login import is_refused, log_in
from otpseal.adapters.pkcs11_modules import (
    Generation,
    end_session,
    find_key,
    find_token,
    generation_of,
    initialise_anew,
    loaded_module,
    lock_of,
    public_key_of,
)
from otpseal.errors import KeyRefused, KeyUnavailable, OtpsealError, UnsealFailed
from otpseal.padding import oaep_encrypt
from otpseal.pkcs11_uri import Pkcs11Uri
from otpseal.secret import Secret

_log = logging.getLogger("otpseal")
_Result = TypeVar("_Result")

#: What tokens say of ciphertexts: there is nothing to repeat.
_CIPHERTEXT_AT_FAULT: Final = (
    told.EncryptedDataInvalid,
    told.EncryptedDataLenRange,
    told.DataInvalid,
    told.DataLenRange,
    told.ArgumentsBad,
)

#: What they say when the session, the login or the token itself is gone.
_LOST: Final = (
    told.SessionHandleInvalid,
    told.SessionClosed,
    told.UserNotLoggedIn,
    told.KeyHandleInvalid,
    told.ObjectHandleInvalid,
    told.OperationActive,
    told.OperationNotInitialized,
    told.DeviceError,
    told.DeviceRemoved,
    told.TokenNotPresent,
    told.TokenNotRecognised,
    told.SlotIDInvalid,
)


class Pkcs11Keys:
    """`otpseal.ports.Keys` over a private key in a token."""

    def __init__(self, module: Path, uri: Pkcs11Uri, pin: Secret | None) -> None:
        """Find the key and try it; costs one private operation of the token.

        Args:
            module: the PKCS#11 module, a shared library.
            uri: which token, which key; exactly one of each must match.
            pin: the user's PIN, UTF-8, or None if the token needs none.

        Raises:
            KeyUnavailable: module, token or key is not there, or the PIN is refused.
            KeyRefused: not a key that the policy accepts, or the token cannot do
                what we need with it.
        """
        self._module = str(module)
        self._uri = uri
        self._pin = pin
        self._generation = Generation()
        self._session: pkcs11.Session | None = None
        self._key: Any = None
        self._public_key: RSAPublicKey | None = None
        try:
            with self._lock:
                self._open()
        except told.PKCS11Error as error:
            raise KeyUnavailable(
                f"the token {uri.token!r} cannot be used: its module answers"
                f" {_name(error)}"
            ) from None
        assert self._public_key is not None
        self._kid: str = keypolicy.key_id(self._public_key)
        _instances.add(self)
        self._try()

    @property
    def _lock(self) -> threading.Lock:
        return lock_of(self._module)

    @property
    def kid(self) -> str:
        """See `otpseal.ports.Keys`."""
        return self._kid

    @property
    def public_key(self) -> RSAPublicKey:
        """See `otpseal.ports.Keys`."""
        assert self._public_key is not None
        return self._public_key

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """See `otpseal.ports.Keys`."""
        # RFC 8017 section 7.1.2, step 1, and RSADP's own check: known from the public
        # key alone. Modules answer an empty ciphertext by an operation left open.
        n = self.public_key.public_numbers().n
        if len(ciphertext) != (n.bit_length() + 7) // 8 or (
            int.from_bytes(ciphertext, "big") >= n
        ):
            raise UnsealFailed
        parameters = (Mechanism.SHA256, MGF.SHA256, label or None)
        try:
            opened: bytes = self._use(
                lambda key: key.decrypt(
                    ciphertext,
                    mechanism=Mechanism.RSA_PKCS_OAEP,
                    mechanism_param=parameters,
                )
            )
        except _CIPHERTEXT_AT_FAULT:
            raise UnsealFailed from None
        except (told.PKCS11Error, OtpsealError) as error:
            # To whoever sent it all failures are alike; the operator must know.
            _log.warning("the token did not decrypt: %s", _name(error))
            raise UnsealFailed from None
        return opened

    def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
        """See `otpseal.ports.Keys`; the message is hashed here, not in the token.

        Raises:
            KeyUnavailable: the token did not sign.
        """
        digest = hashlib.sha256(message).digest()
        try:
            signature: bytes = self._use(
                lambda key: key.sign(
                    digest,
                    mechanism=Mechanism.RSA_PKCS_PSS,
                    mechanism_param=(Mechanism.SHA256, MGF.SHA256, salt_length),
                )
            )
        except told.PKCS11Error as error:
            raise KeyUnavailable(
                f"the token {self._uri.token!r} did not sign: {_name(error)}"
            ) from None
        return signature

    def close(self) -> None:
        """Log out and close the session; the next use opens another."""
        with self._lock:
            self._drop()

    def _use(self, operation: Callable[[Any], _Result]) -> _Result:
        with self._lock:
            # A handle of before may be another key's now: never used to find out.
            if self._key is None or self._generation != generation_of(self._module):
                self._reopen()
            try:
                return operation(self._key)
            except told.PKCS11Error as error:
                if not self._is_lost(error):
                    raise
                _log.warning(
                    "the token's session is lost (%s): logging in again", _name(error)
                )
            self._reopen()
            return operation(self._key)

    def _is_lost(self, error: told.PKCS11Error) -> bool:
        """Tell a lost session from a refused operation, and ask the token if unsure."""
        if isinstance(error, _CIPHERTEXT_AT_FAULT):
            return False
        # The bare class is what the library makes of codes it has no name for, "not
        # initialised" after a fork among them.
        if isinstance(error, _LOST) or type(error) is told.PKCS11Error:
            return True
        # "General error" and its like mean either, depending on the vendor.
        try:
            self._key.get_attributes([Attribute.MODULUS])
        except told.PKCS11Error:
            return True
        return False

    def _reopen(self) -> None:
        self._drop()
        try:
            self._open()
        except (told.PKCS11Error, KeyUnavailable):
            if is_refused(self._module, self._uri, self._pin):
                raise
            # The module itself may have lost its device or its server.
            self._drop()
            initialise_anew(self._module)
            self._open()

    def _drop(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            end_session(self._module, session, self._generation)

    def _open(self) -> None:
        token = find_token(loaded_module(self._module), self._uri)
        self._generation = generation_of(self._module)
        self._session = log_in(token, self._module, self._uri, self._pin)
        key = find_key(self._session, self._uri)
        public_key = public_key_of(key)
        if self._public_key not in (None, public_key):
            raise KeyUnavailable(
                f"the token {self._uri.token!r} has another key by that name than when"
                " this program started"
            )
        self._public_key, self._key = public_key, key

    def _try(self) -> None:
        message, label = secrets.token_bytes(32), b"otpseal key test"
        sealed = oaep_encrypt(self.public_key, message, label=label)
        try:
            opened = self.oaep_decrypt(sealed, label=label)
        except UnsealFailed:
            opened = b""
        if opened != message:
            raise KeyRefused(
                f"the token {self._uri.token!r} does not decrypt RSA-OAEP with SHA-256"
                " and a label by this key: otpseal needs a token that does (SoftHSM"
                " 2.6 does not)"
            )

    def _after_fork(self) -> None:
        self._session = self._key = None


def _name(error: BaseException) -> str:
    # Some modules put what they were given into their messages: the class is enough.
    return str(error) if isinstance(error, OtpsealError) else type(error).__name__


_instances: "weakref.WeakSet[Pkcs11Keys]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for keys in list(_instances):
        keys._after_fork()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_after_fork_in_child)
