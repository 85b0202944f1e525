"""Group commit: many callers, one transaction.

One thread takes everything that waits, has it handled as one batch, and only then
answers: nobody is told what is not durable, and one fsync pays for a whole batch.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from otpseal.errors import OtpsealError, Overloaded, StoreUnavailable
from otpseal.service import Attempt, Service
from otpseal.totp import Code
from otpseal.verification import Decision

#: Most requests in one transaction: a batch must not keep others from the lock.
MAX_BATCH: Final = 256

#: Most requests that wait; beyond, callers are told to come back.
MAX_WAITING: Final = 4096

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Hands what waits to `handle`, a batch at a time, on a thread of its own.

    Args:
        handle: takes a batch, returns a result or an error for each, in order. If it
            raises, that is every caller's answer.
        name: of the thread.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[T]], Sequence[R | OtpsealError]],
        *,
        name: str,
    ) -> None:
        self._handle = handle
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: T) -> Future[R]:
        """Return a future of the item's result.

        Raises:
            Overloaded: too many wait already.
            StoreUnavailable: the batcher is closed.
        """
        future: Future[R] = Future()
        with self._wake:
            if self._closed:
                raise StoreUnavailable("the service is stopping")
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded("Too many requests")
            self._waiting.append((item, future))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Answer what waits, then stop the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            try:
                results = self._handle([item for item, _ in batch])
            except BaseException as error:  # noqa: BLE001 - a thread's last resort:
                # whatever it is belongs to the callers, and the thread must go on.
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if isinstance(result, OtpsealError):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _take(self) -> list[tuple[T, Future[R]]]:
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            count = min(len(self._waiting), MAX_BATCH)
            return [self._waiting.popleft() for _ in range(count)]


class Committer:
    """The service's decisions and codes, each in batches.

    Codes have a thread of their own, so that asking for one does not wait for the
    commit of somebody's attempt longer than the store's lock demands.
    """

    def __init__(self, service: Service) -> None:
        self._attempts: Batcher[Attempt, Decision] = Batcher(
            service.verify_batch, name="committer"
        )
        self._codes: Batcher[str, Code] = Batcher(service.current_codes, name="codes")

    def submit(self, attempt: Attempt) -> Future[Decision]:
        """Return a future of the decision, done when it is durable.

        The future raises `SeedMissing`, `SeedUnreadable` or `StoreUnavailable`.
        """
        return self._attempts.submit(attempt)

    def current_code(self, account: str) -> Future[Code]:
        """Return a future of the account's current code; raises as `submit`'s."""
        return self._codes.submit(account)

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._attempts.close()
        self._codes.close()
