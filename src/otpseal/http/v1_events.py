"""The v1 API's call about audit events."""

import re
from typing import Final

from otpseal.events import MAX_EVENTS, EventPage, EventReader, Filter
from otpseal.http.limits import WorkQueue
from otpseal.http.v1 import Call, Routes
from otpseal.http.v1_fields import Query, bad_cursor, closed_cursor
from otpseal.http.wire import Answer, json_answer

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
                "events": [record.described() for record in page.records],
                "next_cursor": following,
            }
        )
