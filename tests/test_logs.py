"""Log lines: text as ever, or one redacted JSON object each, with the request's id."""

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_fixture import (
    SEED,
    Server,
    call,
    exchange,
    otpseal,
    sealed_to,
    serving,
    wrong_code_at,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.http.access_log import AccessLog
from otpseal.http.wire import Message, Receive, Scope, Send
from otpseal.logs import JsonFormatter, frames_of

SECRET = SEED.reveal().hex()
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
RANDOM_ID = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What a logger `t` has written as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(lambda: "an-id"))
    logger = logging.getLogger("t")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    finally:
        logger.removeHandler(handler)


Lines = Callable[[], list[dict[str, Any]]]


def test_the_fields_of_a_line(lines: Lines) -> None:
    """Time, level, logger, event with its arguments, the request's id, extras."""
    logging.getLogger("t").warning("%d things", 3, extra={"status": 200})

    (line,) = lines()
    assert TIMESTAMP.fullmatch(line.pop("timestamp"))
    assert line == {
        "level": "warning",
        "logger": "t",
        "event": "3 things",
        "request_id": "an-id",
        "status": 200,
    }


def record(**fields: object) -> logging.LogRecord:
    """Return a log record with these fields."""
    given = {"name": "t", "msg": "x", "levelname": "INFO", "created": 0.0}
    return logging.makeLogRecord({**given, **fields})


def test_the_time_is_that_of_the_record() -> None:
    """UTC with milliseconds, whatever the machine's zone is."""
    line = JsonFormatter(lambda: None).format(record(created=1_800_000_000.25))

    assert "2027-01-15T08:00:00.250Z" == json.loads(line)["timestamp"]


def test_secrets_are_redacted(lines: Lines) -> None:
    """In the event, its arguments, and extra fields; also one called like ours."""
    log = logging.getLogger("t")
    log.info("seed %s and %r", SECRET, {"code": SECRET})
    log.info("x", extra={"seed": "short", "a": [SECRET], "frames": [SECRET]})
    log.info("x", extra={"otpseal.frame": SECRET, "level": SECRET, "exc": SECRET})

    assert SECRET not in json.dumps(lines())
    assert "[redacted]" == lines()[1]["seed"]


def test_exceptions_without_their_message(lines: Lines) -> None:
    """Type and frames, innermost last; of a chain no message either."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError("the password is swordfish") from error
    except ValueError:
        logging.getLogger("t").exception("it failed", stack_info=True)

    (line,) = lines()
    assert "ValueError" == line["exception"]
    (frame,) = line["frames"]
    assert re.fullmatch(
        r"\S*/tests/test_logs\.py:\d+ in test_exceptions_without_their_message", frame
    )
    assert "swordfish" not in json.dumps(line)
    assert SECRET not in json.dumps(line)
    assert "stack_info" not in line


def test_deep_exceptions_are_cut() -> None:
    """The innermost frames are kept; a recursion does not fill the disk."""

    def fall(depth: int) -> None:
        if not depth:
            raise ValueError
        fall(depth - 1)

    try:
        fall(100)
    except ValueError as error:
        frames = frames_of(error.__traceback__)

    assert 30 == len(frames)


@pytest.mark.parametrize(
    ("msg", "args"), [("%d %d", (SECRET,)), ("%(a)s", {"b": SECRET}), ("%", (SECRET,))]
)
def test_a_record_that_cannot_be_formatted(msg: str, args: object) -> None:
    """Is told as such: logging's own complaint would print the arguments."""
    line = JsonFormatter(lambda: None).format(record(msg=msg, args=args))

    assert "a log record that cannot be formatted" == json.loads(line)["event"]


# The real program.


def said(server: Server) -> list[dict[str, Any]]:
    """Return the log of a server that writes JSON; every line must be an object."""
    text = (server.directory / "err").read_text()
    return [json.loads(line) for line in text.splitlines()]


def wait_for(server: Server, count: int) -> list[dict[str, Any]]:
    """Return the access lines, once there are `count` of them."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [line for line in said(server) if line["logger"] == "otpseal.access"]
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(said(server))


def test_text_lines_stay_as_they_are(tmp_path: Path, service_keys: RsaKeys) -> None:
    """Without the setting: level and message, and no line for a request."""
    with serving(tmp_path, service_keys, nonsense="1") as server:
        assert server.get("/health").status == 200

    log = (tmp_path / "err").read_text()
    assert "WARNING OTPSEAL_NONSENSE is set, but there is no such setting\n" == log


def test_json_lines_of_the_program(tmp_path: Path, service_keys: RsaKeys) -> None:
    """From the first line on, the settings' own warnings among them."""
    with serving(tmp_path, service_keys, nonsense="1", log_format="json"):
        pass

    (line,) = (tmp_path / "err").read_text().splitlines()
    found = json.loads(line)
    assert "OTPSEAL_NONSENSE is set, but there is no such setting" == found["event"]
    assert ("warning", "otpseal") == (found["level"], found["logger"])
    assert "request_id" not in found


def fail_once(server: Server, request_id: str) -> None:
    """Have the store fail during a request of that id."""
    database = server.directory / "data" / "otpseal.db"
    away = database.with_name("away")
    database.rename(away)
    try:
        code = {"code": wrong_code_at(time.time())}
        reply = server.post("/verify-2fa", code, {"X-Request-Id": request_id})
        assert reply.status == 503
    finally:
        away.rename(database)


def test_lines_have_ids_without_an_access_log(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """The ids are there whenever a line is."""
    with serving(tmp_path, service_keys, log_format="json") as server:
        fail_once(server, "the-one")

        assert ["the-one"] == [
            line.get("request_id") for line in said(server) if line["level"] == "error"
        ]


@pytest.mark.parametrize("setting", ["log_format", "access_log"])
def test_other_values_are_refused(tmp_path: Path, setting: str) -> None:
    """By the setting's name, and not in the silence of a default."""
    done = otpseal("serve", data_dir=tmp_path, **{setting: "yes"})

    assert 2 == done.returncode
    assert f"error: OTPSEAL_{setting.upper()}: " in done.stderr


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Server]:
    """The real program with JSON lines and an access log."""
    directory = tmp_path_factory.mktemp("access")
    settings = {"log_format": "json", "access_log": "on"}
    with serving(directory, service_keys, **settings) as running:
        assert running.bring(sealed_to(service_keys)).status == 200
        wait_for(running, 1)
        yield running


def newest(server: Server, ask: Callable[[], object], count: int = 1) -> list[Any]:
    """Return the access lines of what `ask` asks."""
    before = len(wait_for(server, 0))
    ask()
    return wait_for(server, before + count)[before:]


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/generate-2fa", "/generate-2fa", 200),
        ("GET", "/generate-2fa?code=123456", "/generate-2fa", 200),
        ("DELETE", "/generate-2fa", "/generate-2fa", 405),
        ("GET", "/health?x=123456", "/health", 200),
        ("GET", f"/{SECRET}", "(unknown)", 404),
        ("123456", "/", None, 400),
        ("PROPFIND", "/health", "/health", 405),
    ],
)
def test_a_line_for_each_request(
    server: Server, method: str, path: str, route: str | None, status: int
) -> None:
    """Route, status and duration; nothing of what a stranger typed."""
    if route is None:
        assert status == call(server.port, method, path).status
        assert method not in (server.directory / "err").read_text()
        return

    (line,) = newest(server, lambda: call(server.port, method, path))

    known = method if method != "PROPFIND" else "(unknown)"
    assert (known, route, status) == (line["method"], line["route"], line["status"])
    assert f"{known} {route} {status}" == line["event"]
    assert 0 < line["duration_ms"] < 60_000
    assert RANDOM_ID.fullmatch(line["request_id"])
    assert "123456" not in json.dumps(line)


def test_refused_hosts_are_logged_too(server: Server) -> None:
    """What the guard refuses has its line and its id."""
    (line,) = newest(
        server, lambda: call(server.port, "GET", "/health", None, {"Host": "evil.com"})
    )

    assert 403 == line["status"]
    assert RANDOM_ID.fullmatch(line["request_id"])


def test_clients_ids(server: Server) -> None:
    """An acceptable X-Request-Id is taken over, told and logged; no other is."""
    good = "Abc-1.2_3"

    def ask(value: str) -> Callable[[], object]:
        headers = {"X-Request-Id": value}
        return lambda: replies.append(
            call(server.port, "GET", "/health", None, headers)
        )

    replies: list[Any] = []
    (line,) = newest(server, ask(good))
    assert (good, good) == (line["request_id"], replies[-1].header("x-request-id"))

    for bad in ("", "a b", "x" * 65, 'a"b', "\xe9", "a\tb"):
        (line,) = newest(server, ask(bad))
        assert RANDOM_ID.fullmatch(line["request_id"])
        assert line["request_id"] == replies[-1].header("x-request-id")

    twice = [("X-Request-Id", "a"), ("X-Request-Id", "b")]
    (line,) = newest(server, lambda: call(server.port, "GET", "/health", None, twice))
    assert RANDOM_ID.fullmatch(line["request_id"])


def test_each_request_of_a_connection_has_an_id_of_its_own(server: Server) -> None:
    """Also of those sent ahead, whose tasks begin in one another."""
    one = "GET /health HTTP/1.1\r\nHost: localhost\r\n"
    named = f"{one}X-Request-Id: first\r\n\r\n"
    last = f"{one}Connection: close\r\n\r\n"

    found = newest(
        server,
        lambda: exchange(server.port, f"{named}{one}\r\n{last}".encode()),
        count=3,
    )

    ids = [line["request_id"] for line in found]
    assert "first" == ids[0]
    assert 3 == len(set(ids))


def test_lines_made_during_a_request_have_its_id(server: Server) -> None:
    """A complaint of the store, by the id that the client gave."""
    fail_once(server, "the-one")

    lines = [line for line in said(server) if line["level"] == "error"]
    assert ["the-one"] == [line["request_id"] for line in lines]
    assert "otpseal.http" == lines[0]["logger"]


async def _receive() -> Message:
    raise AssertionError


async def _send(_message: Message) -> None:
    return


@pytest.mark.parametrize(
    ("left", "route"),
    [({"otpseal.route": "/v1/{account}"}, "/v1/{account}"), ({}, "(unknown)")],
)
def test_apps_name_their_route(
    left: dict[str, str], route: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An app without FastAPI's routes leaves the template in the scope."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scope.update(left)
        await send({"type": "http.response.start", "status": 204, "headers": []})

    scope = {"type": "http", "method": "GET", "path": "/v1/alice", "headers": []}
    with caplog.at_level(logging.INFO, "otpseal.access"):
        answering = AccessLog(app, ())(scope, _receive, _send)
        with pytest.raises(StopIteration):
            answering.send(None)  # type: ignore[attr-defined]

    assert [f"GET {route} 204"] == [r.getMessage() for r in caplog.records]


def test_work_in_threads_has_the_requests_id() -> None:
    """What a worker thread logs about a request is found by its id."""
    import asyncio

    from otpseal.http.limits import WorkQueue
    from otpseal.http.request_id import current_request_id, enter

    async def ask(name: bytes) -> str | None:
        enter({"headers": [(b"x-request-id", name)]})
        return await queue.run(current_request_id)

    async def both() -> list[str | None]:
        return list(await asyncio.gather(ask(b"one"), ask(b"two")))

    queue = WorkQueue(at_a_time=1)
    try:
        assert ["one", "two"] == asyncio.run(both())
    finally:
        queue.close()
