"""What the stacks in the background went through (`scenarios.py`)."""

from datetime import datetime

import pytest
from container.harness import LINE, MINUTE, minute_of
from container.scenarios import Healed, Paused

pytestmark = pytest.mark.timeout(700)


def test_no_seed_no_line(healed: Healed) -> None:
    """Without a seed the code log stays empty; the container's output says why."""
    assert healed.code_log_unseeded == ""
    assert "seed" in healed.output_unseeded.lower()


def test_lines_start_within_a_minute_of_the_seed(healed: Healed) -> None:
    """The first line is of the minute of the seed's arrival or of the next."""
    assert LINE.fullmatch(healed.first_line)
    assert minute_of(healed.first_line) - healed.minute_seeded <= MINUTE


def test_a_directory_in_place_of_the_log_is_named(healed: Healed) -> None:
    """The container's output names the path; health is degraded and gives a reason."""
    assert "/cron/last_code.txt" in healed.output_broken
    assert "Traceback" not in healed.output_broken
    assert healed.health_broken["status"] == "degraded"
    assert healed.health_broken["reason"]


def test_the_log_heals_by_itself(healed: Healed) -> None:
    """The directory gone, lines and health come back without a restart."""
    assert LINE.fullmatch(healed.line_after)
    assert "Traceback" not in healed.output_after


def test_no_code_in_the_output(healed: Healed) -> None:
    """The container's output never shows a code."""
    for line in (healed.first_line, healed.line_after):
        assert line.rpartition(" ")[2] not in healed.output_after


def test_missed_minutes_are_one_gap(paused: Paused) -> None:
    """After a pause the audit log has a gap: from and to are its first and last."""
    assert len(paused.gaps) == 1
    detail = paused.gaps[0]["detail"]
    first, last = (datetime.fromisoformat(detail[end]) for end in ("from", "to"))

    assert minute_of(paused.last_before) + MINUTE == first
    assert minute_of(paused.first_after) - MINUTE == last
    assert last - first >= MINUTE


def test_catching_up_writes_no_line_twice(paused: Paused) -> None:
    """Cron runs missed jobs when it wakes; still each minute has one line at most."""
    minutes = [minute_of(line) for line in paused.log]

    assert sorted(set(minutes)) == minutes
    assert [line for line in paused.log if not LINE.fullmatch(line)] == []
