"""A bound on costly work: how much of it runs at a time, and how much may wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from otpseal.errors import Overloaded, StoreUnavailable

#: RSA decryptions at a time, and how many more may wait.
DECRYPTIONS: Final = 2
WAITING_DECRYPTIONS: Final = 64

#: How long a caller waits for a decryption and its commit, in seconds.
DECRYPTION_DEADLINE_S: Final = 10.0

T = TypeVar("T")


class WorkQueue:
    """Runs work in threads: RSA, for which OpenSSL releases the GIL, and the store.

    Args:
        at_a_time: worker threads.
        waiting: how many more may wait for one.
        deadline_s: how long a caller waits, in seconds.
    """

    def __init__(
        self,
        *,
        at_a_time: int = DECRYPTIONS,
        waiting: int = WAITING_DECRYPTIONS,
        deadline_s: float = DECRYPTION_DEADLINE_S,
    ) -> None:
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="work")
        self._room = at_a_time + waiting

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
        """Run `work(*args)` when its turn comes.

        Raises:
            Overloaded: too many wait already; nothing was done.
            StoreUnavailable: it did not end in time. It may still happen, if it had
                begun; the caller was not told that it did.
        """
        if self._room == 0:
            raise Overloaded("Too many requests")
        self._room -= 1
        future = self._pool.submit(work, *args)
        # Room is made when the work ends, not when the client gives up waiting.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._make_room))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._deadline_s)
        except TimeoutError:
            raise StoreUnavailable("the store does not answer") from None

    def _make_room(self) -> None:
        self._room += 1

    def close(self) -> None:
        """Finish what runs; drop what waits."""
        self._pool.shutdown(cancel_futures=True)
