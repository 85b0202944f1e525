"""The service itself, but for a throttle that never makes an answer cheap."""

import sys
from pathlib import Path

from otpseal.config import load_settings
from otpseal.http.app import create_app
from otpseal.http.server import bind, run, url_of
from otpseal.throttle import Policy
from otpseal.wiring import open_service

NEVER = 2**31 - 1

if __name__ == "__main__":
    settings = load_settings(data_dir=Path(sys.argv[2]))
    listener = bind("127.0.0.1", int(sys.argv[1]))
    patient = Policy(threshold=NEVER, disable_at=NEVER)
    with open_service(settings, policy=patient) as opened:
        run(
            create_app(opened, settings),
            listener,
            on_ready=lambda: print(f"ready on {url_of(listener)}"),
        )
