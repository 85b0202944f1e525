"""Self-hosted one-time passwords: sealed seeds, exactly-once codes, an audit log.

The library in four lines::

    from otpseal import Settings, open_service

    with open_service(Settings(data_dir="data")) as opened:
        opened.service.import_sealed(sealed_seed)
        decision = opened.service.verify("123456")

Start reading in `otpseal.service`.
"""

from otpseal.config import Settings
from otpseal.errors import OtpsealError
from otpseal.service import Attempt, Imported, Service
from otpseal.totp import Code
from otpseal.verification import Decision, Outcome
from otpseal.wiring import open_service

__all__ = [
    "Attempt",
    "Code",
    "Decision",
    "Imported",
    "OtpsealError",
    "Outcome",
    "Service",
    "Settings",
    "open_service",
]
__version__ = "0.1.0"
