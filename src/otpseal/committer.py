"""Group commit: many callers, one transaction.

One thread takes everything that waits, has it handled as one batch, and only then
answers: nobody is told what is not durable, and one fsync pays for a whole batch.

Between batches it lingers: callers that were just answered tend to come back at once,
and without waiting for them two halves would take turns, each paying for a commit of
its own. It lingers only until as many wait as there were last time, and never longer
than the last batch took, so that a slow disk makes batches larger and
an idle service answers at once.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from otpseal.errors import OtpsealError, Overloaded, StoreUnavailable
from otpseal.service import Attempt, Service
from otpseal.totp import Code
from otpseal.verification import Decision

#: Most requests in one transaction: a batch must not keep others from the lock.
MAX_BATCH: Final = 256

#: Most requests that wait; beyond, callers are told to come back.
MAX_WAITING: Final = 4096

#: Longest time in the queue, in seconds. Together with the store's patience less than
#: callers wait: who was told that the store is unavailable is not accepted later.
MAX_QUEUED_S: Final = 5.0

#: Lingering takes at most this share of the last batch's time, and never more than
#: this many seconds.
LINGER_SHARE: Final = 1.0
MAX_LINGER_S: Final = 0.005

T = TypeVar("T")
R = TypeVar("R")

#: Takes a result, or the error in its place.
Answer = Callable[[R | BaseException], None]


class Observer(Protocol):
    """Is told of work that is done, on the thread that did it, before it is answered.

    Must not raise and must not block: others wait. Two implementations exist: the
    metrics, and nobody.
    """

    def batch(
        self, results: Sequence[Decision | OtpsealError], seconds: float, waiting: int
    ) -> None:
        """A batch is committed; it took `seconds`; `waiting` attempts came since."""

    def work(self, seconds: float, waiting: int) -> None:
        """A piece of costly work has ended; `waiting` more wait for a thread."""


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
        self._waiting: deque[tuple[T, Answer[R], float]] = deque()
        self._wake = threading.Condition()
        self._wanted = 1  # how many must wait before the thread is woken
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: T, answer: "Answer[R]") -> None:
        """Have `item` handled; `answer` gets its result or error, on the thread.

        `answer` must not raise and must not block: others wait for theirs.

        Raises:
            Overloaded: too many wait already.
            StoreUnavailable: the batcher is closed.
        """
        with self._wake:
            if self._closed:
                raise StoreUnavailable("the service is stopping")
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded("Too many requests")
            self._waiting.append((item, answer, time.monotonic()))
            if len(self._waiting) >= self._wanted:
                self._wake.notify()

    @property
    def waiting(self) -> int:
        """How many wait for the next batch."""
        return len(self._waiting)

    def close(self) -> None:
        """Answer what waits, then stop the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        linger, expected = 0.0, 0
        while taken := self._take(linger, expected):
            started = time.monotonic()
            batch = []
            for item, answer, since in taken:
                if started - since <= MAX_QUEUED_S:
                    batch.append((item, answer))
                else:
                    answer(StoreUnavailable("the store does not answer"))
            self._answer(batch)
            linger = min((time.monotonic() - started) * LINGER_SHARE, MAX_LINGER_S)
            expected = len(batch)

    def _answer(self, batch: list[tuple[T, "Answer[R]"]]) -> None:
        if not batch:
            return
        try:
            results = self._handle([item for item, _ in batch])
            answers = list(zip(batch, results, strict=True))
        except BaseException as error:  # noqa: BLE001 - a thread's last resort:
            # whatever it is belongs to the callers, and the thread must go on.
            for _, answer in batch:
                answer(error)
            return
        for (_, answer), result in answers:
            answer(result)

    def _take(self, linger: float, expected: int) -> list[tuple[T, "Answer[R]", float]]:
        with self._wake:
            self._wanted = min(len(self._waiting) + expected, MAX_BATCH)
            self._wake.wait_for(self._is_due, linger)
            self._wanted = 1
            self._wake.wait_for(self._is_due)
            count = min(len(self._waiting), MAX_BATCH)
            return [self._waiting.popleft() for _ in range(count)]

    def _is_due(self) -> bool:
        return self._closed or len(self._waiting) >= self._wanted


class Committer:
    """The service's decisions and codes, each in batches.

    Codes have a thread of their own, so that asking for one does not wait for the
    commit of somebody's attempt longer than the store's lock demands.
    """

    def __init__(self, service: Service, observer: Observer | None = None) -> None:
        verify = service.verify_batch
        self._attempts: Batcher[Attempt, Decision] = Batcher(
            verify if observer is None else partial(self._observed, verify, observer),
            name="committer",
        )
        self._codes: Batcher[str, Code] = Batcher(service.current_codes, name="codes")

    def _observed(
        self,
        verify: Callable[[Sequence[Attempt]], list[Decision | OtpsealError]],
        observer: Observer,
        attempts: Sequence[Attempt],
    ) -> list[Decision | OtpsealError]:
        started = time.perf_counter()
        results = verify(attempts)
        seconds = time.perf_counter() - started
        observer.batch(results, seconds, self._attempts.waiting)
        return results

    def submit(self, attempt: Attempt) -> Future[Decision]:
        """Return a future of the decision, done when it is durable.

        The future raises `SeedMissing`, `SeedUnreadable` or `StoreUnavailable`.
        """
        future: Future[Decision] = Future()
        self.decide(attempt, partial(_settle, future))
        return future

    def decide(self, attempt: Attempt, answer: Answer[Decision]) -> None:
        """Have `answer` called with the decision when it is durable, or an error.

        What `submit` does, without the locks that a future costs.
        """
        self._attempts.submit(attempt, answer)

    def current_code(self, account: str, answer: Answer[Code]) -> None:
        """Have `answer` called with the account's current code, or an error."""
        self._codes.submit(account, answer)

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._attempts.close()
        self._codes.close()


def _settle(future: Future[R], result: R | BaseException) -> None:
    # Whoever cancelled is left alone: answering a cancelled future raises.
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
