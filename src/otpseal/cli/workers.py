"""`otpseal serve --workers N`: a parent that holds the listener, and its workers.

The parent opens neither store nor keys and answers nobody. Each worker is a program
of its own (no fork: a copied process would share the store's lock, OpenSSL's state
and threads that are not there) on the same listening socket, and is tied to the
parent by a socket pair, its channel: through it the worker tells that it is ready or
why it refuses to start, and by its end each learns of the other's death, however
that came about.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, Self

import typer

from otpseal.errors import OtpsealError
from otpseal.http.metrics import SHARED_DIRECTORY, forget_worker
from otpseal.http.server import GRACE_S

#: From asking a worker to stop to killing it, in seconds: more than requests in
#: flight may take, less than the ten that a container has.
STOP_WITHIN_S: Final = GRACE_S + 3.0

#: The first wait before a dead worker is replaced, doubled with each death, and the
#: longest, in seconds.
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 10.0

#: A worker that answered for so long, in seconds, did not die of its start.
_SETTLED_S: Final = 10.0

#: After so many deaths in a row with nobody left to answer there is no use in more.
MAX_DEATHS: Final = 5

_READY: Final = b"+"
_REFUSED: Final = b"-"

_log = logging.getLogger("otpseal")


@contextmanager
def worker_environment() -> Iterator[Mapping[str, str]]:
    """Give what the workers' environment has besides the parent's.

    Made before the first worker starts, and gone after the last has ended. The
    directory is where prometheus-client gathers the numbers of several processes.
    """
    with tempfile.TemporaryDirectory(prefix="otpseal-workers-") as directory:
        yield {SHARED_DIRECTORY: directory}


# The worker's side


@contextmanager
def reporting(channel_fd: int) -> Iterator[Callable[[], None]]:
    """Tie this process to its parent; gives what tells it that this one is ready.

    A deliberate error is told to the parent, which prints it once for all workers.
    """
    from otpseal.cli import exit_code

    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    threading.Thread(target=_stop_with_parent, args=[channel], daemon=True).start()

    def tell(what: bytes) -> None:
        with suppress(OSError):  # no parent: the thread ends this process
            channel.sendall(what)

    try:
        yield lambda: tell(_READY)
    except OtpsealError as error:
        tell(_REFUSED + str(error).encode("utf-8"))
        raise typer.Exit(exit_code(error)) from None


def _stop_with_parent(channel: socket.socket) -> None:
    # The parent never writes: what arrives is its end.
    with suppress(OSError):
        channel.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_WITHIN_S)
    os._exit(1)


# The parent's side


@dataclass(eq=False, slots=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    channel: socket.socket
    said: bytearray = field(default_factory=bytearray)
    ready_at: float | None = None

    @property
    def refusal(self) -> str | None:
        """Why it refused to start, if it did."""
        if not self.said.startswith(_REFUSED):
            return None
        return self.said[len(_REFUSED) :].decode("utf-8", "replace")


def supervise(
    options: Sequence[str],
    listener: socket.socket,
    environment: Mapping[str, str],
    *,
    count: int,
    on_ready: Callable[[], None],
) -> None:
    """Keep `count` workers on a listener until SIGTERM or SIGINT.

    Args:
        options: of `otpseal serve`, for each worker.
        listener: bound and listening; closed when the workers are asked to stop.
        environment: what the workers' environment has besides this process's.
        count: how many workers.
        on_ready: called once, when all of them answer.

    Raises:
        typer.Exit: no worker could be started; the reason is on stderr.
    """
    with _Parent(
        options, listener, environment, count=count, on_ready=on_ready
    ) as parent:
        parent.run()


class _Parent:
    def __init__(
        self,
        options: Sequence[str],
        listener: socket.socket,
        environment: Mapping[str, str],
        *,
        count: int,
        on_ready: Callable[[], None],
    ) -> None:
        self._options = options
        self._listener = listener
        self._environment = {**os.environ, **environment}
        self._count = count
        self._on_ready: Callable[[], None] | None = on_ready
        self._workers: set[_Worker] = set()
        self._due = [time.monotonic()] * count  # when to start those that are missing
        self._deaths = 0  # in a row
        self._asked = 0  # how often to stop
        self._kill_at: float | None = None  # set once the workers were asked to stop
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()

    def __enter__(self) -> Self:
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._waker.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:  # none, unless this is an exception's way out
            worker.process.kill()
            worker.process.wait()
            worker.channel.close()
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._waker.close()
        self._woken.close()

    def run(self) -> None:
        while self._workers or self._kill_at is None:
            self._start_those_due()
            for key, _ in self._selector.select(self._patience_s()):
                if key.data is None:
                    self._woken.recv(4096)
                else:
                    self._hear(key.data)
            if self._asked and self._kill_at is None:
                self._stop()
            if self._asked > 1 or self._is_overdue():
                for worker in self._workers:
                    worker.process.kill()
        if self._exit_code:
            raise typer.Exit(self._exit_code)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1

    def _is_overdue(self) -> bool:
        return self._kill_at is not None and time.monotonic() >= self._kill_at

    def _patience_s(self) -> float | None:
        times = [*self._due] if self._kill_at is None else [self._kill_at]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _start_those_due(self) -> None:
        if self._kill_at is None:
            now = time.monotonic()
            missing = [due for due in self._due if due <= now]
            self._due = [due for due in self._due if due > now]
            for _ in missing:
                self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        listener, channel = self._listener.fileno(), theirs.fileno()
        # -P: what lies in the current directory is no module of ours.
        flags = ["-P", *(["-I"] if sys.flags.isolated else [])]
        program = [sys.executable, *flags, "-m", "otpseal", "serve"]
        inherited = ["--listener-fd", str(listener), "--channel-fd", str(channel)]
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [*program, *self._options, *inherited],
                env=self._environment,
                pass_fds=(listener, channel),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is the parent's, who passes it on
            )
        worker = _Worker(process, ours)
        self._workers.add(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.channel.recv(65536)
        except ConnectionError:
            said = b""
        if not said:
            self._bury(worker)
            return
        worker.said += said
        if said == _READY:
            worker.ready_at = time.monotonic()
        ready = [worker for worker in self._workers if worker.ready_at is not None]
        if len(ready) == self._count and self._on_ready is not None:
            self._on_ready()
            self._on_ready = None

    def _bury(self, worker: _Worker) -> None:
        self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
        try:
            code = worker.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            code = worker.process.wait()
        forget_worker(worker.process.pid, self._environment[SHARED_DIRECTORY])
        if self._kill_at is not None or self._asked:
            return
        now = time.monotonic()
        settled = worker.ready_at is not None and now - worker.ready_at > _SETTLED_S
        self._deaths = 1 if settled else self._deaths + 1
        # With others that answer, one that does not start ends nothing.
        starting = self._on_ready is not None
        alone = all(other.ready_at is None for other in self._workers)
        if worker.refusal is not None and (starting or alone):
            self._give_up(worker.refusal, code)
        elif self._deaths >= MAX_DEATHS and alone:
            self._give_up("the workers die one after the other", 1)
        else:
            wait_s = min(FIRST_WAIT_S * 2.0 ** (self._deaths - 1), LONGEST_WAIT_S)
            why = worker.refusal or f"exit code {code}"
            _log.warning("a worker ended (%s); another in %.1f s", why, wait_s)
            self._due.append(now + wait_s)

    def _give_up(self, reason: str, code: int) -> None:
        typer.echo(f"error: {reason}", err=True)
        self._exit_code = code or 1
        self._stop()

    def _stop(self) -> None:
        self._kill_at = time.monotonic() + STOP_WITHIN_S
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()
