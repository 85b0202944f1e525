"""A bound on costly work: how much of it runs at a time, and how much may wait."""

import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from otpseal.committer import Answer, Observer
from otpseal.errors import Overloaded
from otpseal.http.bridge import Bridge
from otpseal.http.request_id import carried

#: RSA decryptions at a time, and how many more may wait.
DECRYPTIONS: Final = 2
WAITING_DECRYPTIONS: Final = 64

#: How long a caller waits for a decryption and its commit, in seconds.
DECRYPTION_DEADLINE_S: Final = 10.0

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Answer[Any]]


class WorkQueue:
    """Runs work in threads: RSA, for which OpenSSL releases the GIL, and the store.

    Args:
        at_a_time: worker threads.
        waiting: how many more may wait for one.
        deadline_s: how long a caller waits, in seconds.
        observer: is told how long each piece of work took.
    """

    def __init__(
        self,
        *,
        at_a_time: int = DECRYPTIONS,
        waiting: int = WAITING_DECRYPTIONS,
        deadline_s: float = DECRYPTION_DEADLINE_S,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer
        self._bridge = Bridge(deadline_s)
        self._room = threading.Semaphore(at_a_time + waiting)
        # A ThreadPoolExecutor makes a future with locks for each piece of work.
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"work-{n}", daemon=True)
            for n in range(at_a_time)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
        """Run `work(*args)` when its turn comes.

        Raises:
            Overloaded: too many wait already; nothing was done.
            StoreUnavailable: it did not end in time. It may still happen, if it had
                begun; the caller was not told that it did.
        """
        return await self._bridge.ask(self._submit, carried(work, *args))

    def _submit(self, work: Callable[[], T], answer: Answer[T]) -> None:
        if not self._room.acquire(blocking=False):
            raise Overloaded("Too many requests")
        self._jobs.put((work, answer))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, answer = job
            started = time.perf_counter()
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to
                result = error  # the caller, who waits for it in another thread
            # Room is made when the work ends, not when the caller gives up waiting.
            self._room.release()
            if self._observer is not None:
                seconds = time.perf_counter() - started
                self._observer.work(seconds, self._jobs.qsize())
            answer(result)

    def close(self) -> None:
        """Finish what runs; drop what waits."""
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
