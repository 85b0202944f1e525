"""Limits that keep strangers from tying the server up.

`DeadlineProtocol` cuts off clients that send too slowly; `DecryptionQueue` bounds
how many RSA decryptions run and wait.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otpseal.errors import Overloaded

#: Time from the first byte of a request (or the connection's start) to its last.
REQUEST_DEADLINE_S: Final = 5.0

#: Bytes of one request line with all headers; Linux clients send under 2 KiB.
MAX_HEAD_BYTES: Final = 32 * 1024

#: RSA decryptions at a time, and how many more may wait.
DECRYPTIONS: Final = 2
WAITING_DECRYPTIONS: Final = 64

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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection must send a whole request in time, too."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._look_again_in(REQUEST_DEADLINE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the clock at a request's first byte; bound its head."""
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()
        self._head_bytes += len(data)
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

    def on_message_complete(self) -> None:
        """The request is complete: answering it may take as long as it takes."""
        self._waiting_since = None
        self._in_head = True
        super().on_message_complete()

    def _look_again_in(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self._waiting_since is None:
            self._look_again_in(REQUEST_DEADLINE_S)
            return
        left = self._waiting_since + REQUEST_DEADLINE_S - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            self.transport.abort()


class DecryptionQueue:
    """Runs RSA decryptions in worker threads: OpenSSL releases the GIL for them."""

    def __init__(
        self, *, at_a_time: int = DECRYPTIONS, waiting: int = WAITING_DECRYPTIONS
    ) -> None:
        self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="decrypt")
        self._room = at_a_time + waiting

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
        """Run `work(*args)` when its turn comes.

        Raises:
            Overloaded: too many wait already; nothing was done.
        """
        if self._room == 0:
            raise Overloaded("Too many requests")
        self._room -= 1
        future = self._pool.submit(work, *args)
        # Room is made when the work ends, not when the client gives up waiting.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._make_room))
        return await asyncio.wrap_future(future)

    def _make_room(self) -> None:
        self._room += 1

    def close(self) -> None:
        """Finish what runs; drop what waits."""
        self._pool.shutdown(cancel_futures=True)
