"""`otpseal seed enrol` that kills itself when its seed is stored, at a given point.

Arguments: the point, and those of the command.
"""

import os
import signal
import sys
from typing import NoReturn

from otpseal.adapters.enrolment_client import AuthorityConnection
from otpseal.cli import app, enrol

#: What the command does next when it is killed.
POINTS = ("writing", "sending")


def _die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _main(point: str, *arguments: str) -> None:
    if point == "writing":
        enrol.replace_file = _die  # type: ignore[attr-defined]
    else:
        AuthorityConnection.send_receipt = _die  # type: ignore[method-assign]
    app(["seed", "enrol", *arguments])


if __name__ == "__main__":
    _main(*sys.argv[1:])
