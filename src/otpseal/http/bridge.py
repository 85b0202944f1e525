"""From the committer's threads to the event loop: answers that can be awaited.

A batch of answers wakes the loop once: `asyncio.wrap_future` would wake it for every
one, and chain two futures where one does.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from otpseal.committer import Answer
from otpseal.errors import StoreUnavailable

#: How long a caller waits for the store before he is told that it is unavailable.
STORE_DEADLINE_S: Final = 10.0

T = TypeVar("T")
R = TypeVar("R")


class Bridge:
    """Makes threads' answers awaitable in the one event loop that uses it.

    Args:
        deadline_s: how long a caller waits, in seconds.
    """

    def __init__(self, deadline_s: float = STORE_DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._arrived: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._delivery_is_due = False

    async def ask(self, submit: Callable[[T, Answer[R]], None], item: T) -> R:
        """Submit `item` and await its answer.

        Raises:
            StoreUnavailable: there was no answer in time. What was
                asked may still happen; the caller was not told that it did.
            OtpsealError: the answer was an error.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[R] = loop.create_future()

        # Quoted: else it is made anew for every request.
        def answer(result: "R | BaseException") -> None:
            self._arrived.append((waiter, result))
            # Two threads may both find none due: then one of two deliveries is idle.
            if not self._delivery_is_due:
                self._delivery_is_due = True
                # The loop is closed only when nobody waits any more.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._deliver)

        submit(item, answer)
        timer = loop.call_later(self._deadline_s, _expire, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()

    def _deliver(self) -> None:
        # Before looking: who arrives after the last look has to call again.
        self._delivery_is_due = False
        while self._arrived:
            waiter, result = self._arrived.popleft()
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(StoreUnavailable("the store does not answer"))
