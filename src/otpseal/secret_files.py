"""Secrets that an administrator keeps in files: tokens, passphrases, PINs."""

import re
from pathlib import Path
from typing import Final

from otpseal.errors import ConfigurationError
from otpseal.secret import Secret

MIN_TOKEN_CHARS: Final = 32
_MAX_BYTES: Final = 4096

# RFC 6750 section 2.1 and a little more: every visible character. A token that no
# client can send would lock everyone out without a word.
_TOKEN: Final = re.compile(rb"[!-~]+")


def read_token_file(path: Path, variable: str) -> Secret:
    """Return a bearer token.

    Raises:
        ConfigurationError: too short, not fit for a header, or see `read_secret_file`.
    """
    token = read_secret_file(path, variable)
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigurationError(
            f"the token in {variable} is shorter than {MIN_TOKEN_CHARS} characters"
        )
    if not _TOKEN.fullmatch(token.reveal()):
        raise ConfigurationError(
            f"the token in {variable} holds blanks or other characters that no HTTP"
            " header carries: use letters, digits and -._~+/="
        )
    return token


def read_secret_file(path: Path, variable: str) -> Secret:
    """Return the first line of a secret file, without its line break.

    Raises:
        ConfigurationError: missing, unreadable, empty or too large: a secret that
            fails to load fails loudly.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{variable}: {path} cannot be read: {error.strerror}"
        ) from None
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(f"{variable}: {path} is too large for a secret")
    secret = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not secret:
        raise ConfigurationError(f"{variable}: {path} is empty")
    return Secret(secret)
