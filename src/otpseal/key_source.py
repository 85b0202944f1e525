"""Settings -> the private key, wherever it is: in a file, or in a token."""

import stat
from pathlib import Path
from typing import Final

from otpseal.adapters.file_keys import key_exists, load_keys
from otpseal.config import Settings
from otpseal.errors import ConfigurationError
from otpseal.pkcs11_uri import Pkcs11Uri
from otpseal.ports import Keys
from otpseal.secret import Secret
from otpseal.secret_files import read_secret_file

_PIN: Final = "OTPSEAL_PKCS11_PIN_FILE"


def load_private_key(settings: Settings, default_name: str) -> Keys:
    """Load and validate the private key, or log in to the token that has it.

    Args:
        settings: where it is.
        default_name: of the file in the data directory, if they do not say.

    Raises:
        ConfigurationError: the settings contradict each other, or one is missing.
        KeyUnavailable, KeyRefused: of the key.
    """
    uri = settings.key_uri()
    if uri is None:
        return load_keys(settings.key_path(default_name), settings.key_passphrase())
    return load_from_token(settings, uri)


def load_from_token(settings: Settings, uri: Pkcs11Uri) -> Keys:
    """Log in to the token that a URI names, and try the key.

    Raises:
        ConfigurationError: a setting of tokens is missing.
        KeyUnavailable, KeyRefused: of the key.
    """
    module = token_module(settings)
    from otpseal.adapters.pkcs11_keys import Pkcs11Keys  # noqa: PLC0415

    return Pkcs11Keys(module, uri, token_pin(settings))


def token_module(settings: Settings) -> Path:
    """Return the path of the PKCS#11 module; python-pkcs11 is there to use it.

    Raises:
        ConfigurationError: it is not set, or python-pkcs11 is not installed.
    """
    if settings.pkcs11_module is None:
        raise ConfigurationError(
            "a key in a token needs OTPSEAL_PKCS11_MODULE: the path of the vendor's"
            " PKCS#11 module, a shared library"
        )
    try:
        # Optional: who keeps his key in a file does not need it.
        import otpseal.adapters.pkcs11_keys  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigurationError(
            "keys in tokens need python-pkcs11: pip install otpseal[pkcs11]"
        ) from None
    return settings.pkcs11_module


def private_key_exists(settings: Settings, default_name: str) -> bool:
    """Tell whether there is a private key; one in a token is never ours to make.

    Raises:
        ConfigurationError: the settings contradict each other.
        KeyUnavailable: the file's directory belongs to another user.
    """
    if settings.key_uri() is not None:
        return True
    return key_exists(settings.key_path(default_name))


def token_pin(settings: Settings) -> Secret | None:
    """Return the token's PIN, or None if no file is set.

    Raises:
        ConfigurationError: the file is missing, unreadable, empty, or open to others.
    """
    path = settings.pkcs11_pin_file
    if path is None:
        return None
    pin = read_secret_file(path, _PIN)
    mode = stat.S_IMODE(path.stat().st_mode)
    # A PIN and a socket to the token are the key.
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"{_PIN}: {path} is open to group or others (mode {mode:04o}): run"
            f" `chmod 600 {path}`, and change the PIN if others could log in here"
        )
    return pin
