"""How often fault tests repeat: little in `make test`, fully in `make torture`."""

import os


def rounds(few: int, *, full: int) -> range:
    """Return the rounds to go: `few`, or `full` under `make torture`."""
    return range(full if os.environ.get("OTPSEAL_TORTURE") else few)
