"""Do two ways to fail take the same time? Welch's t-test, as dudect does it.

Time is the processor's, spent by this thread: the code under test does not wait for
anything, and what the machine's other work takes away would hide a difference, not
show one. No sample is left out. With 10,000 a way and a deviation of 200 us, which is
usual around an RSA decryption, the threshold stands for some 13 us.
"""

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, variance

#: Above it dudect and the ISO 17825 test of leakage call a difference real.
THRESHOLD = 4.5


@dataclass(frozen=True)
class Samples:
    """What was measured.

    Attributes:
        microseconds: of each way to fail, in the order of measurement.
    """

    microseconds: Mapping[str, list[float]]

    def worst(self, kept: float = 1.0) -> tuple[float, str]:
        """Return the greatest |t| of any two ways, and which two they are.

        Args:
            kept: the part of all samples that counts, the fastest. Below 1 it shows
                smaller differences, those of a microsecond or two among them.
        """
        pooled = sorted(one for each in self.microseconds.values() for one in each)
        bound = pooled[int(len(pooled) * kept) - 1]
        ways = {
            f"{name} ({fmean(each):.1f} us)": [one for one in each if one <= bound]
            for name, each in self.microseconds.items()
        }
        return max(
            (abs(welch(ways[a], ways[b])), f"{a}, {b}")
            for a, b in combinations(ways, 2)
        )


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Welch's t of two samples."""
    error = variance(a) / len(a) + variance(b) / len(b)
    return float((fmean(a) - fmean(b)) / error**0.5)


def measure(
    ways: Mapping[str, Sequence[str]], act: Callable[[str], object], *, each: int
) -> Samples:
    """Time `act` on inputs of each way, in an order of pure chance.

    Args:
        ways: the inputs of each way; one of them is drawn for each sample.
        act: takes an input; it catches what it raises.
        each: samples a way.
    """
    order = [name for name in ways for _ in range(each)]
    random.shuffle(order)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    gc.collect()
    gc.disable()
    try:
        for name in order:
            given = random.choice(ways[name])
            began = time.thread_time_ns()
            act(given)
            taken[name].append((time.thread_time_ns() - began) / 1000)
    finally:
        gc.enable()
    return Samples(taken)
