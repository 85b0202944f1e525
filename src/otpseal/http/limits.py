"""Limits that keep strangers from tying the server up.

`DeadlineProtocol` cuts off clients that send too slowly; `DecryptionQueue` bounds
how many RSA decryptions run and wait.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from otpseal.errors import Overloaded, StoreUnavailable

#: Time from the first byte of a request (or the connection's start) to its last.
REQUEST_DEADLINE_S: Final = 5.0

#: Bytes of one request line with all headers; Linux clients send under 2 KiB.
MAX_HEAD_BYTES: Final = 32 * 1024

#: Requests that a client may send ahead of its answers; ordinary ones send none.
MAX_PIPELINED: Final = 16

#: RSA decryptions at a time, and how many more may wait.
DECRYPTIONS: Final = 2
WAITING_DECRYPTIONS: Final = 64

#: How long a caller waits for a decryption and its commit, in seconds.
DECRYPTION_DEADLINE_S: Final = 10.0

_UPGRADE: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)

T = TypeVar("T")


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for each request to be complete.

    uvicorn itself never times out a half-sent request, so that a few thousand idle
    sockets (Slowloris) would hold it for ever. One timer serves a connection for as
    long as it lasts: arming one for each request would cost more than the check.
    """

    _waiting_since: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection must send a whole request in time, too."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._look_again_in(REQUEST_DEADLINE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline; nothing more is to be sent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            # uvicorn tells it to the newest request only. With others sent ahead, the
            # one that runs would write to a closed socket: a traceback in the log.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the clock at a request's first byte; bound its head."""
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()
        self._head_bytes += len(data)
        if self._in_head and b"pgrade" in data:
            data = _without_upgrade(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins, perhaps in the same packet that ended the one before."""
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete; the body has its own cap where it is read."""
        self._in_head = False
        self._head_bytes = 0
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            # One packet holds thousands, each with objects of its own. The parser
            # stops at an exception, and uvicorn answers 400 and closes.
            raise ValueError("too many requests sent ahead")

    def on_message_complete(self) -> None:
        """The request is complete: answering it may take as long as it takes."""
        # Answered before its body ended, it is not going to be answered again: the
        # wait for the next request began, and uvicorn's own timer for it is off.
        answered = self.cycle.response_complete
        self._waiting_since = self.loop.time() if answered else None
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - uvicorn's own type is private
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _look_again_in(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            # Its last answer waits to be read, but not for ever.
            self._timer = self.loop.call_later(REQUEST_DEADLINE_S, self.transport.abort)
            return
        if self.flow.write_paused:
            # So many unread answers have only those who ask and never read.
            self.transport.abort()
            return
        if self._waiting_since is None:
            self._look_again_in(REQUEST_DEADLINE_S)
            return
        left = self._waiting_since + REQUEST_DEADLINE_S - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            self.transport.abort()


def _without_upgrade(data: bytes) -> bytes:
    # We upgrade to nothing, and may ignore the wish (RFC 9110 section 7.8). The parser
    # would obey it and drop the body: Java's HttpClient asks for h2c with every first
    # POST, and so does `curl --http2`.
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nX-Upgrade:", head) + end + rest


class DecryptionQueue:
    """Runs RSA decryptions in worker threads: OpenSSL releases the GIL for them.

    Args:
        at_a_time: worker threads.
        waiting: how many more may wait for one.
        deadline_s: how long a caller waits, in seconds.
    """

    def __init__(
        self,
        *,
        at_a_time: int = DECRYPTIONS,
        waiting: int = WAITING_DECRYPTIONS,
        deadline_s: float = DECRYPTION_DEADLINE_S,
    ) -> None:
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="decrypt")
        self._room = at_a_time + waiting

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
        """Run `work(*args)` when its turn comes.

        Raises:
            Overloaded: too many wait already; nothing was done.
            StoreUnavailable: it did not end in time. It may still happen, if it had
                begun; the caller was not told that it did.
        """
        if self._room == 0:
            raise Overloaded("Too many requests")
        self._room -= 1
        future = self._pool.submit(work, *args)
        # Room is made when the work ends, not when the client gives up waiting.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._make_room))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._deadline_s)
        except TimeoutError:
            raise StoreUnavailable("the store does not answer") from None

    def _make_room(self) -> None:
        self._room += 1

    def close(self) -> None:
        """Finish what runs; drop what waits."""
        self._pool.shutdown(cancel_futures=True)
