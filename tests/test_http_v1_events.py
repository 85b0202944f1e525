"""`GET /v1/events`: filters, pages, fences, and what it costs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import TurnedClock
from v1_fixture import ALL, V1, caller, served_v1

from otpseal.adapters.file_keys import RsaKeys
from otpseal.audit import Event, Kind
from otpseal.events import MAX_SCANNED, EventReader, Filter
from otpseal.ledger import Ledger
from otpseal.ports import EventRow


@pytest.fixture
def v1(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[V1]:
    """A service and a caller who may do everything."""
    with served_v1(tmp_path, service_keys, clock) as made:
        yield made


def events(v1: V1, query: str = "") -> list[Any]:
    """Return the events of one page, that must be the last."""
    reply = v1.get(f"/v1/events?{query}" if query else "/v1/events")
    assert reply.status == 200, reply
    assert reply.json["next_cursor"] is None
    found: list[Any] = reply.json["events"]
    return found


def test_an_event(v1: V1) -> None:
    """As it was recorded, with who caused it."""
    v1.create("shop/alice")

    (event,) = events(v1, "account=shop/alice")

    assert event["at"] == "2027-01-15T08:00:00.000Z"
    assert event["kind"] == "account.created"
    assert event["account"] == "shop/alice"
    assert event["genuine"] is True
    assert event["detail"].keys() == {"caller", "source", "type"}
    assert list(event) == ["id", "at", "kind", "account", "detail", "genuine"]


def test_filters(v1: V1) -> None:
    """By account, by kind and by time; `since` counts itself, `until` does not."""
    for name in ("a", "b"):
        v1.create(name)
        v1.here.clock.turn(60)
    v1.post("/v1/accounts/a:enable")

    assert [e["account"] for e in events(v1, "kind=account.created")] == ["b", "a"]
    assert [e["kind"] for e in events(v1, "account=a")] == [
        "account.enabled",
        "account.created",
    ]
    times = "since=2027-01-15T08:01:00Z&until=2027-01-15T10:02:00.000%2B02:00"
    assert [e["account"] for e in events(v1, times)] == ["b"]
    assert events(v1, "kind=no.such") == []
    assert events(v1, "account=A") == []


def test_pages(v1: V1) -> None:
    """Every event once, newest first, whatever is recorded in between."""
    for number in range(5):
        v1.create(f"a{number}")
    expected = [event["id"] for event in events(v1)]
    found: list[int] = []
    path = "/v1/events?limit=2"
    while len(found) <= len(expected):
        page = v1.get(path).json
        found += [event["id"] for event in page["events"]]
        if page["next_cursor"] is None:
            break
        v1.create(f"between{len(found)}")
        path = f"/v1/events?limit=2&cursor={page['next_cursor']}"

    assert found == expected


def test_a_fence(v1: V1) -> None:
    """A tenant sees his own accounts' events and no others, nor the store's."""
    for name in ("shop/a", "other/a", "shopping"):
        v1.create(name)
    tenant = caller(v1.here, ALL, prefix="shop/")

    assert {event["account"] for event in events(tenant)} == {"shop/a"}
    assert events(tenant, "account=other/a") == []
    assert "" in {event["account"] for event in events(v1)}


def test_an_altered_event(v1: V1, tmp_path: Path) -> None:
    """Is shown, and told apart; one that is no JSON hides no other."""
    v1.create("a")
    v1.create("b")
    with closing(sqlite3.connect(tmp_path / "otpseal.db")) as database, database:
        database.execute(
            "UPDATE audit_events SET detail = '{', at_ms = ? WHERE account = 'a'",
            [2**62],
        )

    shown = {event["account"]: event for event in events(v1)}

    assert (shown["a"]["genuine"], shown["a"]["detail"]) == (False, "{")
    assert shown["a"]["at"] == f"{2**62} ms"
    assert shown["b"]["genuine"] is True


def fill(v1: V1, count: int, *, at_ms: int) -> None:
    """Append events that nobody wants."""
    row = EventRow(0, at_ms, "code.shown", "elsewhere", "{}", bytes(32))
    with v1.here.opened.store.transaction() as tx:
        tx.append_events([row] * count)


def test_a_page_looks_through_so_many_rows(v1: V1) -> None:
    """An empty page leads on to what was wanted; no request reads the whole log."""
    v1.create("wanted")
    now_ms = round(v1.here.clock() * 1000)
    fill(v1, MAX_SCANNED + 1, at_ms=now_ms)

    first = v1.get("/v1/events?account=wanted").json
    second = v1.get(f"/v1/events?account=wanted&cursor={first['next_cursor']}").json

    assert first["events"] == []
    assert [event["account"] for event in second["events"]] == ["wanted"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("times", ["genuine", "altered"])
def test_since_ends_the_search(v1: V1, times: str) -> None:
    """A day before it, by a genuine event's time: an altered one ends nothing."""
    opened = v1.here.opened
    since = v1.here.clock()
    v1.create("wanted")
    old = since - 2 * 86_400
    if times == "altered":
        fill(v1, 600, at_ms=round(old * 1000))
    else:
        with opened.store.transaction() as tx:
            event = Event(Kind.CODE_SHOWN, old, "elsewhere")
            Ledger(tx, opened.storage_key).record(*[event] * 600)
    reader = EventReader(opened.store, opened.storage_key, opened.service.clock)

    page = reader.page(Filter(since_ms=round(since * 1000)), 50)

    found = {record.row.account for record in page.records}
    assert ("wanted" in found) == (times == "altered")
    assert page.before is None


@pytest.mark.parametrize(
    "query",
    [
        "since=2027-01-15",
        "since=2027-01-15T08:00:00",
        "since=2027-01-15T08:00Z",
        "since=2027-01-15T08:00:00 02:00",
        "since=2027-13-15T08:00:00Z",
        "since=1800000000",
        "until=now",
        "until=0001-01-01T00:00:00%2B14:00",
        "cursor=MQ==",
        "cursor=MDE",  # 01
        "cursor=LTE",  # -1
        "cursor=YQ",  # a
        "limit=201",
        "at=1",
        "kind=a&kind=b",
    ],
)
def test_bad_queries(v1: V1, query: str) -> None:
    """422."""
    reply = v1.get(f"/v1/events?{query.replace(' ', '%20')}")

    assert (reply.status, reply.json["code"]) == (422, "malformed")
