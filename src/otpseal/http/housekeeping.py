"""What a server does while it runs: counts become events, old events go."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from otpseal.errors import StoreUnavailable

#: How often, in seconds.
SETTLE_EVERY_S: Final = 60.0
PRUNE_EVERY_S: Final = 86_400.0

_log = logging.getLogger("otpseal.http")


async def keep_house(
    settle: Callable[[], object], *, prune: Callable[[], object] | None
) -> None:
    """Call `settle` every minute and `prune` at once and then daily, until cancelled.

    Both run in worker threads. A store that is unavailable is tried again.
    """
    pruned_at = float("-inf")
    while True:
        try:
            await asyncio.to_thread(settle)
            if prune is not None and time.monotonic() - pruned_at >= PRUNE_EVERY_S:
                await asyncio.to_thread(prune)
                pruned_at = time.monotonic()
        except StoreUnavailable as error:
            _log.warning("housekeeping is put off: %s", error)
        except Exception as error:  # noqa: BLE001 - this loop's last resort: it must
            # go on, or counts never become events and the log grows without bound.
            _log.error("housekeeping failed: unexpected %s", type(error).__name__)
        await asyncio.sleep(SETTLE_EVERY_S)
