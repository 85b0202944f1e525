"""A program that rotates the import key, and kills itself at a step of it.

Arguments: data directory, key file (or nothing: OTPSEAL_KEY says where the key is),
the step, and what its clock shows.
"""

import os
import signal
import sys
from pathlib import Path

from otpseal.config import Settings
from otpseal.ports_key_files import Step
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_lifecycle


def _main(data_dir: str, key_file: str, step: str, now: str) -> None:
    def reached(at: Step) -> None:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings(
        data_dir=Path(data_dir), key_file=Path(key_file) if key_file else None
    )
    with open_service(settings, clock=lambda: float(now), create=False) as opened:
        cycle = make_lifecycle(
            opened, settings, clock=lambda: float(now), reached=reached
        )
        cycle.rotate()


if __name__ == "__main__":
    _main(*sys.argv[1:])
