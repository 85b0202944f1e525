"""What the tests of the authority share: an authority, and servers on loopback."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from otpseal import envelope, keypolicy
from otpseal.adapters.file_keys import RsaKeys
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.authority import Authority
from otpseal.http.protocol import DeadlineProtocol
from otpseal.http.server import bind
from otpseal.http.wire import App
from otpseal.ports import Clock
from otpseal.storage_key import StorageKey

STUDENT = "24A91A0501"
REPOSITORY = "https://github.com/someone/otp"


def pem_of(keys: RsaKeys) -> bytes:
    """Return the public PEM of a key pair."""
    return keypolicy.public_pem(keys.public_key)


def opened_by(keys: RsaKeys, sealed: str) -> bytes:
    """Return the seed that `keys` find in a sealed seed."""
    return envelope.open_sealed(sealed, keys.oaep_decrypt).reveal()


@contextlib.contextmanager
def authority_over(
    directory: Path,
    keys: RsaKeys,
    clock: Clock,
    *,
    max_seeds: int = 100,
    kind: type[Authority] = Authority,
) -> Iterator[Authority]:
    """Open an authority over the store in `directory`, making it if need be."""
    store = SqlStore(open_engine(f"sqlite:///{directory / 'otpseal.db'}"))
    with store.transaction() as tx:
        record = tx.storage_key_record()
        if record is None:
            record = StorageKey.generate().wrap(keys)
            tx.set_storage_key_record(record)
    storage_key = StorageKey.unwrap(record, keys)
    try:
        yield kind(
            store, keys=keys, storage_key=storage_key, clock=clock, max_seeds=max_seeds
        )
    finally:
        store.close()


@contextlib.contextmanager
def served(app: App) -> Iterator[int]:
    """Run an ASGI app on a real uvicorn in a thread; gives its port."""
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=DeadlineProtocol, ws="none", lifespan="on", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The body, parsed."""
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str = "/",
    body: str | bytes | Iterator[bytes] | None = None,
    content_type: str | None = "application/json",
) -> Answer:
    """Send one request over a connection of its own; an iterable goes in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {} if content_type is None else {"content-type": content_type}
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


Behaviour = Callable[[socket.socket, bytes], None]


@dataclass
class Misbehaving:
    """A server that answers each connection as it is told, the last way for ever."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    sent: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/"


@contextlib.contextmanager
def misbehaving(*behaviours: Behaviour) -> Iterator[Misbehaving]:
    """Run a server in a thread that gives connection n to behaviour n."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Misbehaving(listener.getsockname()[1])
    stopping = threading.Event()

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            if stopping.is_set():
                connection.close()
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                request = read_request(connection)
                number = len(server.requests)
                server.requests.append(request)
                behaviours[min(number, len(behaviours) - 1)](connection, request)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server
    finally:
        stopping.set()
        socket.create_connection(("127.0.0.1", server.port)).close()
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def read_request(connection: socket.socket) -> bytes:
    """Read a whole request with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def replying(
    content: bytes | dict[str, Any] | list[Any],
    status: str = "200 OK",
    *headers: str,
) -> Behaviour:
    """Return a behaviour that answers with a body, JSON if it is not bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = "\r\n".join(
        [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    )

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head.encode("latin-1") + body)

    return behave
