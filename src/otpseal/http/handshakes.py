"""Accepts TLS connections, and bounds what those cost who never finish a handshake."""

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable
from typing import Final

#: From the connection's start to the end of the handshake, in seconds. asyncio's own
#: is sixty: a few thousand who never finish would stay for a minute.
HANDSHAKE_DEADLINE_S: Final = 5.0

#: How long a closing connection waits for the client's own goodbye, in seconds.
GOODBYE_DEADLINE_S: Final = 2.0

#: Handshakes that go on at once. Each holds about 50 KB, and 9,500 half a gigabyte.
MAX_HANDSHAKES: Final = 1000

#: Connections that are accepted before those that are there get a turn.
_ACCEPTED_AT_ONCE: Final = 64

#: How long nobody is accepted when the system has no descriptor left, in seconds.
_PAUSE_S: Final = 0.2

_OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class TlsListener:
    """In place of what `loop.create_server` returns, for TLS on one listening socket.

    A connection that has sent nothing has no TLS state yet: it costs a descriptor and
    a timer. When more than `MAX_HANDSHAKES` have begun, the oldest gives way to the
    newest. An honest handshake takes milliseconds and is never the oldest, as long as
    the processor can shake hands with fewer than a thousand meanwhile.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listener = listener
        self._context = context
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._begun: dict[asyncio.Task[None], None] = {}  # the oldest first

    def listen(self) -> None:
        """Accept from now on."""
        self._listener.setblocking(False)  # noqa: FBT003 - its only argument
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept nobody any more, and drop those who have not shaken hands."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._listener)
        for connection in list(self._silent):
            self._drop(connection)
        for task in self._begun:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return when the last handshake has been given up."""
        await asyncio.gather(*self._begun, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    # The listener stays readable: to try at once would be to spin.
                    self._loop.remove_reader(self._listener)
                    self._loop.call_later(_PAUSE_S, self._listen_again)
                    return
                continue  # this one went away before it was accepted
            connection.setblocking(False)  # noqa: FBT003 - its only argument
            self._silent[connection] = self._loop.call_later(
                HANDSHAKE_DEADLINE_S, self._drop, connection
            )
            self._loop.add_reader(connection, self._begin, connection)

    def _listen_again(self) -> None:
        if not self._closed:
            self.listen()

    def _drop(self, connection: socket.socket) -> None:
        self._silent.pop(connection).cancel()
        self._loop.remove_reader(connection)
        connection.close()

    def _begin(self, connection: socket.socket) -> None:
        timer = self._silent.pop(connection)
        timer.cancel()
        self._loop.remove_reader(connection)
        if len(self._begun) >= MAX_HANDSHAKES:
            oldest = next(iter(self._begun))
            del self._begun[oldest]
            oldest.cancel()
        left_s = max(0.1, timer.when() - self._loop.time())
        task = self._loop.create_task(self._shake_hands(connection, left_s))
        self._begun[task] = None
        task.add_done_callback(functools.partial(self._ended, connection))

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._begun.pop(task, None)
        if task.cancelled():  # perhaps before it had its first turn
            connection.close()

    async def _shake_hands(self, connection: socket.socket, within_s: float) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=within_s,
                ssl_shutdown_timeout=GOODBYE_DEADLINE_S,
            )
        except OSError:
            # A refusal is the client's to know: it is not logged, anyone causes it.
            connection.close()
