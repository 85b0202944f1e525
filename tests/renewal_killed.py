"""A program that renews a signing certificate, and kills itself at a step of it.

Arguments: data directory, the step, what its clock shows, and `new` for a new key.
"""

import os
import signal
import sys
from pathlib import Path

from otpseal.adapters.signing_swap import Step
from otpseal.config import Settings
from otpseal.wiring import open_authority
from otpseal.wiring_renewal import renew


def _main(data_dir: str, step: str, now: str, key: str) -> None:
    def reached(at: Step) -> None:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def clock() -> float:
        return float(now)

    settings = Settings(data_dir=Path(data_dir))
    with open_authority(settings, clock=clock) as opened:
        renew(opened, settings, new_key=key == "new", clock=clock, reached=reached)


if __name__ == "__main__":
    _main(*sys.argv[1:])
