"""A plaintext seed that an older deployment left behind."""

import logging
from pathlib import Path

from otpseal import envelope
from otpseal.adapters.seed_file import open_seed_file
from otpseal.errors import SeedConflict, UnsealFailed
from otpseal.service import Service

_log = logging.getLogger("otpseal")


def adopt_seed_file(path: Path, service: Service) -> None:
    """Import the plaintext seed of an existing deployment once, then destroy it."""
    try:
        file = open_seed_file(path)
    except OSError as error:
        _log.warning("%s was left as it is: %s", path, error.strerror)
        return
    if file is None:
        return
    try:
        if not file.is_destroyed():
            seed = envelope.parse_seed_text(file.read())
            service.import_seed(seed, source="plaintext-file")
        file.destroy()
    except UnsealFailed:
        _log.warning(
            "%s does not hold a seed of 64 hex characters: it was left as it is;"
            " remove it, it does not belong here",
            path,
        )
    except SeedConflict:
        _log.warning(
            "%s holds another seed than the store: it was left as it is. Remove it; or"
            " if it is the right one, seal it to the public key and run `otpseal seed"
            " replace`",
            path,
        )
    except OSError as error:
        _log.warning(
            "%s was imported into the store but cannot be overwritten and removed:"
            " %s. Remove it: it holds the seed in clear",
            path,
            error.strerror,
        )
    else:
        service.upkeep.record_seed_file_removed()
        _log.warning("%s was imported into the store, overwritten and removed", path)
    finally:
        file.close()
