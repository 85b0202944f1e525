"""The audit log's vocabulary, its counts and the bytes it is authenticated by."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.audit import Event, Kind, Tally, canonical_bytes

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
#: Everything that was ever recorded. Grows; nothing is renamed or taken away.
VOCABULARY = [
    "account.confirmed",
    "account.created",
    "account.deleted",
    "account.disabled",
    "account.enabled",
    "account.resynced",
    "accounts.exported",
    "accounts.imported",
    "alarm.failure-rate",
    "attempt.accepted",
    "attempt.disabled",
    "attempt.replayed",
    "attempt.throttled",
    "attempt.unknown",
    "attempt.wrong",
    "audit.pruned",
    "authority.certificate-renewed",
    "authority.enrolment-refused",
    "authority.envelope-issued",
    "authority.envelope-repeated",
    "authority.pinned",
    "authority.rebound",
    "authority.receipt-refused",
    "authority.receipt-stored",
    "authority.request-refused",
    "authority.seed-issued",
    "authority.seed-reissued",
    "authority.subscriber-added",
    "authority.subscriber-revoked",
    "authority.ticket-made",
    "authority.unpinned",
    "backup.restored",
    "backup.written",
    "caller.created",
    "caller.revoked",
    "clock.accepted",
    "clock.behind",
    "code-log.gap",
    "code-log.repaired",
    "code-log.written",
    "code.shown",
    "envelope.accepted",
    "envelope.expired",
    "envelope.misdirected",
    "envelope.refused",
    "envelope.replayed",
    "envelope.stale",
    "import-key.prepared",
    "import-key.refused",
    "import-key.rotated",
    "key.made",
    "recovery.made",
    "recovery.used",
    "seed.file-removed",
    "seed.imported",
    "seed.refused",
    "seed.repeated",
    "seed.replaced",
    "storage-key.replaced",
    "store.created",
]


def test_the_vocabulary_is_closed() -> None:
    """A renamed, removed or unlisted kind fails here: programs read these words."""
    assert sorted(kind.value for kind in Kind) == VOCABULARY


def test_a_kind_fits_its_column() -> None:
    """Every kind fits the 32 characters that the schema gives it."""
    assert max(len(kind.value) for kind in Kind) <= 32


# Canonical bytes.


def test_canonical_bytes_are_these() -> None:
    """The form written down in docs/protocol.md, byte for byte."""
    expected = bytes.fromhex(
        "01"  # version
        "00000000000003e8"  # 1000 ms
        "00000005" + b"a.b-c".hex() + "00000002" + "c3a9" + "00000002" + b"{}".hex()
    )

    found = canonical_bytes(kind="a.b-c", at_ms=1000, account="é", detail="{}")

    assert expected == found


@given(kind=TEXT, at_ms=st.integers(-(2**63), 2**63 - 1), account=TEXT, detail=TEXT)
def test_canonical_bytes_are_injective(
    kind: str, at_ms: int, account: str, detail: str
) -> None:
    """The columns can be read back from the bytes: no two events share theirs."""
    raw = canonical_bytes(kind=kind, at_ms=at_ms, account=account, detail=detail)

    texts, rest = [], raw[9:]
    while rest:
        end = 4 + int.from_bytes(rest[:4], "big")
        texts.append(rest[4:end].decode())
        rest = rest[end:]
    assert at_ms == int.from_bytes(raw[1:9], "big", signed=True)
    assert [kind, account, detail] == texts


@given(text=st.text("ab{}.", max_size=9), cuts=st.tuples(*[st.integers(0, 9)] * 4))
def test_moving_text_between_fields_changes_the_bytes(
    text: str, cuts: tuple[int, int, int, int]
) -> None:
    """No character can move from one field to the next unnoticed."""

    def split(first: int, second: int) -> dict[str, str]:
        first, second = sorted((first, second))
        return {
            "kind": text[:first],
            "account": text[first:second],
            "detail": text[second:],
        }

    one, other = split(*cuts[:2]), split(*cuts[2:])

    same_bytes = canonical_bytes(at_ms=1, **one) == canonical_bytes(at_ms=1, **other)

    assert (one == other) is same_bytes


def test_detail_is_canonical_json() -> None:
    """Whatever the order it was made in, a detail has one text: sorted, no blanks."""
    detail = {"wait_s": 30, "failures": 5, "pair": "ü"}

    assert r'{"failures":5,"pair":"\u00fc","wait_s":30}' == (
        Event(Kind.ATTEMPT_WRONG, 0.0, "a", detail).detail_json
    )
    assert Event(Kind.CODE_LOGGED, 0.0).detail_json == "{}"


@pytest.mark.parametrize(
    ("at", "at_ms"),
    [(0.0, 0), (1.0006, 1001), (-1.5, -1500), (4e9 + 0.25, 4 * 10**12 + 250)],
)
def test_times_are_kept_to_the_millisecond(at: float, at_ms: int) -> None:
    """An event's time is the nearest millisecond."""
    assert at_ms == Event(Kind.CODE_LOGGED, at).at_ms


# Counting.


@given(
    st.lists(
        st.tuples(st.floats(0, 90), st.integers(0, 5)),  # seconds passed, how many
        max_size=60,
    )
)
def test_at_most_one_event_a_minute_and_none_lost(
    arrivals: list[tuple[float, int]],
) -> None:
    """However many come: one event a minute, and the counts add up to all of them."""
    tally, now, told = Tally(Kind.SEED_REFUSED, "a"), 1e9, []

    for passed_s, count in arrivals:
        now += passed_s
        tally, events = tally.add(now, count) if count else tally.flush(now)
        told += events

    assert sum(count for _, count in arrivals) == (
        sum(int(event.detail["count"]) for event in told) + tally.pending
    )
    times = [event.at for event in told]
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))
    assert all(event.detail["count"] for event in told)
    assert {("seed.refused", "a")} >= {(event.kind, event.account) for event in told}


def test_the_first_is_told_at_once_and_the_rest_a_minute_later() -> None:
    """One occurrence is an event of its own; what follows in its minute is one more."""
    tally, first = Tally(Kind.SEED_REPEATED, "a").add(100.0)
    tally, none = tally.add(100.0, 7)
    tally, still_none = tally.flush(159.9)
    tally, rest = tally.flush(160.0)

    assert (Event(Kind.SEED_REPEATED, 100.0, "a", {"count": 1}),) == first
    assert (none, still_none) == ((), ())
    assert (Event(Kind.SEED_REPEATED, 160.0, "a", {"count": 7}),) == rest
    assert tally.flush(1e9) == (tally, ())


def test_a_clock_set_back_silences_nothing() -> None:
    """What is pending is told under the new time, not when the old one returns."""
    tally, _ = Tally(Kind.SEED_REPEATED, "a").add(1e9)
    tally, _ = tally.add(1e9)

    _, events = tally.flush(1e9 - 3600)

    assert (Event(Kind.SEED_REPEATED, 1e9 - 3600, "a", {"count": 1}),) == events
