"""What cron runs every minute: `scripts/log_2fa_cron.py`."""

import sys

from otpseal.config import load_settings
from otpseal.errors import OtpsealError
from otpseal.minute import Logged
from otpseal.wiring import open_service

_NO_CODE_LOG = "OTPSEAL_CODE_LOG is not set: there is no code log to write"
_NO_SEED = (
    "no line in the code log: there is no seed yet; it starts within a minute of the"
    " seed's arrival (POST /decrypt-seed, or `otpseal seed import`)"
)


def log_minute() -> int:
    """Write this minute's line; returns the exit code, and says on stderr why not."""
    try:
        with open_service(load_settings(), create=False) as opened:
            if opened.minute_job is None:
                return _say(_NO_CODE_LOG, 2)
            if opened.minute_job.run() is Logged.NO_SEED:
                return _say(_NO_SEED, 0)
    except OtpsealError as error:
        return _say(str(error), 1)
    return 0


def _say(text: str, exit_code: int) -> int:
    sys.stderr.write(f"2fa-cron: {text}\n")
    return exit_code
