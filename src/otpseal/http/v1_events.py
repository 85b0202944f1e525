"""The v1 API's call about audit events."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from otpseal.events import MAX_EVENTS, EventPage, EventReader, Filter
from otpseal.http.limits import WorkQueue
from otpseal.http.v1 import Call, Routes
from otpseal.http.v1_fields import Query, bad_cursor, closed_cursor
from otpseal.http.wire import Answer, json_answer
from otpseal.ledger import AuditRecord

DEFAULT_PAGE: Final = 50

_PLACE: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class EventCalls:
    """The call.

    Args:
        events: the use case.
        work: runs what waits for the store.
    """

    def __init__(self, events: EventReader, *, work: WorkQueue) -> None:
        self._events = events
        self._work = work
        self.paths: Routes = {"/v1/events": {"GET": self.list_events}}

    async def list_events(self, call: Call) -> Answer:
        """`GET /v1/events`: newest first; a page may be short and yet not the last."""
        query = Query(call.scope["query_string"])
        limit = query.number("limit", DEFAULT_PAGE, most=MAX_EVENTS)
        wanted = Filter(
            account=query.text("account"),
            kind=query.text("kind"),
            since_ms=query.time_ms("since"),
            until_ms=query.time_ms("until"),
        )
        place = query.cursor()
        query.end()
        if place is not None and not _PLACE.fullmatch(place):
            raise bad_cursor()
        before = None if place is None else int(place)

        def read() -> EventPage:
            return self._events.page(
                wanted, limit, before=before, credential=call.credential
            )

        page = await self._work.run(read)
        following = None if page.before is None else closed_cursor(str(page.before))
        return json_answer(
            {
                "events": [_shown(record) for record in page.records],
                "next_cursor": following,
            }
        )


def _shown(record: AuditRecord) -> dict[str, Any]:
    row = record.row
    return {
        "id": row.id,
        "at": _time(row.at_ms),
        "kind": row.kind,
        "account": row.account,
        # What was altered need not be JSON any more, and is shown as it stands.
        "detail": json.loads(row.detail) if record.genuine else row.detail,
        "genuine": record.genuine,
    }


def _time(at_ms: int) -> str:
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms"  # altered: one row must not hide all the others
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
