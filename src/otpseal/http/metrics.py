"""What the service tells Prometheus: counts and times, never a name.

Each app has a registry of its own. With several workers, `PROMETHEUS_MULTIPROC_DIR`
in the environment makes prometheus-client keep every worker's numbers in files of
that directory, and any process that has it, the parent among them, shows their sum.
"""

import math
import os
import platform
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from otpseal import __version__
from otpseal.committer import MAX_BATCH
from otpseal.errors import OtpsealError
from otpseal.ports import Clock, CodeLog
from otpseal.verification import Decision, Outcome

SHARED_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"

#: Attempts in a batch.
_SIZES: Final = tuple(2**n for n in range(MAX_BATCH.bit_length()))

#: Seconds, from a fast disk's commit to the store's patience.
_TIMES: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)


class Metrics:
    """The numbers of one process; `otpseal.committer.Observer`.

    Args:
        clock: gives the Unix time.
        code_log: the one-line-a-minute file, if one is configured.
    """

    def __init__(self, *, clock: Clock, code_log: CodeLog | None) -> None:
        self._clock = clock
        self._code_log = code_log
        self._registry = registry = CollectorRegistry()
        decisions = Counter(
            "otpseal_decisions_total",
            "Attempts decided, by outcome.",
            ["outcome"],
            registry=registry,
        )
        # Made now, so that each is told from the start, as 0.
        self._decisions = {
            outcome: decisions.labels(outcome.name.lower()) for outcome in Outcome
        }
        self._batch_size = Histogram(
            "otpseal_batch_size",
            "Attempts decided in one transaction.",
            buckets=_SIZES,
            registry=registry,
        )
        self._commit = Histogram(
            "otpseal_commit_seconds",
            "Time of a batch, from asking for the store's lock to its commit.",
            buckets=_TIMES,
            registry=registry,
        )
        self._decrypt = Histogram(
            "otpseal_decrypt_seconds",
            "Time of a sealed seed, from its decryption's start to its commit.",
            buckets=_TIMES,
            registry=registry,
        )
        waiting = Gauge(
            "otpseal_waiting",
            "Attempts and decryptions that wait for their turn.",
            ["queue"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._attempts_waiting = waiting.labels("attempts")
        self._decryptions_waiting = waiting.labels("decryptions")
        self._refusals = Counter(
            "otpseal_refusals_total",
            "Requests refused, by the error's code or the HTTP status.",
            ["code"],
            registry=registry,
        )
        self._add_constants()

    def _add_constants(self) -> None:
        build = Gauge(
            "otpseal_build_info",
            "1; the labels say what runs.",
            ["version", "python"],
            registry=self._registry,
            multiprocess_mode="max",
        )
        build.labels(__version__, platform.python_version()).set(1)
        self._age: Gauge | None = None
        if self._code_log is not None:
            self._age = Gauge(
                "otpseal_code_log_age_seconds",
                "Time since the code log's newest line; +Inf if it has none.",
                registry=self._registry,
                multiprocess_mode="mostrecent",
            )

    def batch(
        self, results: Sequence[Decision | OtpsealError], seconds: float, waiting: int
    ) -> None:
        """See `otpseal.committer.Observer`."""
        outcomes = Tally(
            result.outcome for result in results if isinstance(result, Decision)
        )
        for outcome, count in outcomes.items():
            self._decisions[outcome].inc(count)
        self._batch_size.observe(len(results))
        self._commit.observe(seconds)
        self._attempts_waiting.set(waiting)

    def work(self, seconds: float, waiting: int) -> None:
        """See `otpseal.committer.Observer`."""
        self._decrypt.observe(seconds)
        self._decryptions_waiting.set(waiting)

    def refused(self, code: str) -> None:
        """Count a request that was refused; `code` is one of a closed set."""
        self._refusals.labels(code).inc()

    def page(self) -> bytes:
        """Return all numbers in Prometheus' text format; reads the code log."""
        if self._age is not None and self._code_log is not None:
            at = self._code_log.newest_line_at()
            self._age.set(math.inf if at is None else self._clock() - at)
        if directory := os.environ.get(SHARED_DIRECTORY):
            return shared_page(directory)
        return generate_latest(self._registry)


def forget_worker(pid: int, directory: str) -> None:
    """Forget what a worker that has ended said of the present; its counts stay.

    For the parent of several workers, when it has waited for one of them.
    """
    mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


def shared_page(directory: str) -> bytes:
    """Return the sum of all workers' numbers; for a parent that has none itself."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
