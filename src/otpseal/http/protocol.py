"""The server's HTTP/1.1 protocol: uvicorn's, with deadlines and bounds of our own."""

import asyncio
import re
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from otpseal.http.tls import peer_names, valid_until
from otpseal.http.wire import AT_ONCE, PEER_NAMES, Answer, json_answer

#: Time from the first byte of a request (or the connection's start) to its last.
REQUEST_DEADLINE_S: Final = 5.0

#: Bytes of one request line with all headers; Linux clients send under 2 KiB.
MAX_HEAD_BYTES: Final = 32 * 1024

#: Requests that a client may send ahead of its answers; ordinary ones send none.
MAX_PIPELINED: Final = 16

_BAD_HTTP: Final = json_answer({"error": "Malformed HTTP"}, status=400)
_CLOSE: Final = b"connection: close\r\n"
_UPGRADE: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


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
    _peer: tuple[str, ...] | None = None
    _peer_until = 0.0
    _common_head: tuple[object, bytes] = (None, b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection must send a whole request in time, too.

        With TLS this is after the handshake, which has a deadline of its own.
        """
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        if certificate:
            self._peer = peer_names(certificate)
            self._peer_until = valid_until(certificate)
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
        extensions: dict[str, Any] = {AT_ONCE: self._answer_at_once}
        # A connection, or a session that it resumed, may outlive the certificate.
        if self._peer is not None and time.time() < self._peer_until:
            extensions[PEER_NAMES] = self._peer
        self.scope["extensions"] = extensions

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

    def _answer_at_once(self, answer: Answer) -> bool:
        """Write an answer that was made before; False if it must go by `send`.

        What uvicorn's `send` does in two calls and two writes, checking the headers
        again, for the request that is running.
        """
        cycle = self._running
        if (
            cycle is None
            or cycle.response_started
            or cycle.disconnected
            or self.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        closing = b"" if cycle.keep_alive else _CLOSE
        parts = (answer.status_line, self._common(), answer.head, closing, answer.tail)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join(parts))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _common(self) -> bytes:
        headers = self.server_state.default_headers  # a new list every second
        if self._common_head[0] is not headers:
            lines = (name + b": " + value + b"\r\n" for name, value in headers)
            self._common_head = (headers, b"".join(lines))
        return self._common_head[1]

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is answered: in JSON."""
        del msg  # uvicorn's own text
        parts = (_BAD_HTTP.status_line, self._common(), _BAD_HTTP.head, _CLOSE)
        self.transport.write(b"".join((*parts, _BAD_HTTP.tail)))
        self.transport.close()

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
