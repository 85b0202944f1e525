"""The store's high-water mark of wall time, as pure rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.wallclock import (
    ADVANCE_EVERY_S,
    MAX_BEHIND_S,
    MAX_PARTING_S,
    Watch,
    advanced,
    is_behind,
)

NOW = 1_800_000_000.0
STEPS = st.lists(
    st.tuples(st.floats(0, 100), st.floats(-10_000, 10_000)), min_size=1, max_size=30
)


def test_a_leap_forward_is_not_believed() -> None:
    """What the monotonic clock contradicts moves the mark only as time passed."""
    watch = Watch.started(NOW, 50.0)

    leapt = watch.observe(NOW + 31_536_000, 52.0)
    later = leapt.observe(NOW + 31_536_010, 62.0)

    assert NOW + 2 == leapt.wall
    assert NOW + 12 == later.wall


def test_a_clock_that_is_put_right_again_is_followed() -> None:
    """After the leap is undone the watch goes on with the wall clock."""
    watch = Watch.started(NOW, 50.0).observe(NOW + 3600, 51.0)

    assert NOW + 3 == watch.observe(NOW + 3, 53.0).wall


def test_a_pause_between_the_readings_is_forgotten() -> None:
    """A process that was stopped for a moment does not lag for ever after."""
    paused = Watch.started(NOW, 50.0).observe(NOW + 1, 61.0)

    assert NOW + 12 == paused.observe(NOW + 12, 62.0).wall


def test_a_clock_that_goes_back_is_followed() -> None:
    """It harms nothing: the mark itself never goes back."""
    assert NOW - 3600 == Watch.started(NOW, 50.0).observe(NOW - 3600, 51.0).wall


@given(STEPS)
def test_the_watch_never_gains_on_the_monotonic_clock(
    steps: list[tuple[float, float]],
) -> None:
    """However the wall clock leaps, it is believed at most a second too much each."""
    watch = Watch.started(NOW, 0.0)
    monotonic, wall = 0.0, NOW
    for count, (passed, leap) in enumerate(steps, start=1):
        monotonic += passed
        wall += passed + leap
        watch = watch.observe(wall, monotonic)

        assert watch.wall <= NOW + monotonic + count * MAX_PARTING_S + 1e-3


@given(st.floats(-100, 100))
def test_behind_is_more_than_five_seconds(ahead: float) -> None:
    """A clock verifies at up to five seconds behind the mark, and any time ahead."""
    expected = ahead < -MAX_BEHIND_S

    assert expected == is_behind(NOW + ahead, NOW)


@pytest.mark.parametrize(
    ("expected", "mark_ms", "wall"),
    [
        (1_800_000_000_000, None, NOW),
        (None, 1_800_000_000_000, NOW + ADVANCE_EVERY_S - 0.001),
        (1_800_000_001_000, 1_800_000_000_000, NOW + ADVANCE_EVERY_S),
        (None, 1_800_000_009_000, NOW),
    ],
)
def test_the_mark_moves_once_a_second_and_never_back(
    expected: int | None, mark_ms: int | None, wall: float
) -> None:
    """Each move is a write; and the mark is the latest time that was seen."""
    assert expected == advanced(mark_ms, Watch.started(wall, 0.0))
