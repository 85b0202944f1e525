"""Files that commands leave behind for people: sealed seeds and proofs."""

import os
import secrets
from pathlib import Path

from otpseal.errors import ConfigurationError


def replace_file(path: Path, content: bytes, *, advice: str) -> None:
    """Write the file whole or not at all, in place of the one before.

    Raises:
        ConfigurationError: it cannot be written; ends with `advice`.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}; {advice}"
        ) from None
