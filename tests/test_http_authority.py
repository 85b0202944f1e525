"""The authority over real HTTP: the classic protocol, and what it refuses."""

import json
import logging
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from authority_fixtures import (
    REPOSITORY,
    STUDENT,
    Answer,
    ask,
    authority_over,
    opened_by,
    pem_of,
    served,
)
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric import rsa

from otpseal import keypolicy
from otpseal.adapters.file_keys import RsaKeys
from otpseal.authority import Authority
from otpseal.http.authority import create_authority_app
from otpseal.http.limits import DECRYPTIONS, WAITING_DECRYPTIONS

CANARY = "canary-7f3a"


@pytest.fixture
def authority(
    tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Authority]:
    """An authority with room for two pairs."""
    with authority_over(tmp_path, other_keys, clock, max_seeds=2) as opened:
        yield opened


@pytest.fixture
def port(authority: Authority) -> Iterator[int]:
    """The port of that authority's server."""
    with served(create_authority_app(authority)) as listening:
        yield listening


def request_of(keys: RsaKeys, **changes: object) -> dict[str, object]:
    """Return a good request's fields, some changed."""
    fields: dict[str, object] = {
        "student_id": STUDENT,
        "github_repo_url": REPOSITORY,
        "public_key": pem_of(keys).decode(),
    }
    return fields | changes


def post(port: int, fields: object) -> Answer:
    """Post JSON to the root path."""
    return ask(port, "POST", body=json.dumps(fields))


def in_database(directory: Path, statement: str) -> None:
    """Change the store behind the authority's back."""
    with closing(sqlite3.connect(directory / "otpseal.db")) as connection, connection:
        connection.execute(statement)


def test_a_good_request_gets_a_sealed_seed(port: int, service_keys: RsaKeys) -> None:
    """200 with exactly status, encrypted_seed and message; compact, never cached."""
    answer = post(port, request_of(service_keys))

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.startswith(b'{"status":"success","encrypted_seed":"')
    assert set(answer.json) == {"status", "encrypted_seed", "message"}
    assert isinstance(answer.json["message"], str)
    assert len(answer.json["encrypted_seed"]) == 684
    assert len(opened_by(service_keys, answer.json["encrypted_seed"])) == 32


def test_the_same_request_gets_the_same_seed(port: int, service_keys: RsaKeys) -> None:
    """Over HTTP as in Python: one pair and key, one seed; extra fields don't matter."""
    first = post(port, request_of(service_keys))
    again = post(port, request_of(service_keys, more="ignored"))

    assert opened_by(service_keys, first.json["encrypted_seed"]) == opened_by(
        service_keys, again.json["encrypted_seed"]
    )


def test_another_key_is_409(
    port: int, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """A bound pair with another key: 409, status error, and the way out."""
    post(port, request_of(service_keys))

    answer = post(port, request_of(other_keys))

    assert answer.status == 409
    assert answer.json["status"] == "error"
    assert "otpseal authority rebind" in answer.json["error"]


def test_a_full_authority_is_409(port: int, service_keys: RsaKeys) -> None:
    """Beyond the cap: 409, and the message says that it is full, not bound."""
    post(port, request_of(service_keys, student_id="one"))
    post(port, request_of(service_keys, student_id="two"))

    answer = post(port, request_of(service_keys, student_id="three"))

    assert answer.status == 409
    assert "OTPSEAL_AUTHORITY_MAX_SEEDS" in answer.json["error"]


def good(**changes: object) -> dict[str, object]:
    """Return fields whose key is no key; enough where the key is not reached."""
    fields = {"student_id": CANARY, "github_repo_url": CANARY, "public_key": CANARY}
    return fields | changes


def without(field: str) -> dict[str, object]:
    """Return `good()` without a field."""
    return {name: value for name, value in good().items() if name != field}


MALFORMED: dict[str, tuple[str | bytes, str]] = {
    "empty": (b"", "Missing student_id"),
    "no JSON": (f"student_id={CANARY}", "Malformed JSON"),
    "cut off": (f'{{"student_id":"{CANARY}"', "Malformed JSON"),
    "NaN": (f'{{"student_id":NaN,"x":"{CANARY}"}}', "Malformed JSON"),
    "no UTF-8": (b'{"student_id":"canary-7f3a\xff"}', "Malformed JSON"),
    "twice": ('{"student_id":"a","student_id":"b"}', "Malformed JSON"),
    "deep": ("[" * 8000, "Malformed JSON"),
    "list": (f'["{CANARY}"]', "JSON object"),
    "number": ("1e999", "JSON object"),
    "no student": (json.dumps(without("student_id")), "Missing student_id"),
    "no repository": (
        json.dumps(without("github_repo_url")),
        "Missing github_repo_url",
    ),
    "no key": (json.dumps(without("public_key")), "Missing public_key"),
    "null": (json.dumps(good(student_id=None)), "Missing student_id"),
    "empty text": (json.dumps(good(public_key="")), "Missing public_key"),
    "number id": (json.dumps(good(student_id=7)), "student_id must be a string"),
    "infinite id": ('{"student_id":1e999}', "student_id must be a string"),
    "list key": (json.dumps(good(public_key=[CANARY])), "public_key must be a string"),
    "surrogate id": (json.dumps(good(student_id="\ud800")), "student_id is not valid"),
    "surrogate key": (json.dumps(good(public_key="\ud800")), "public_key is not valid"),
    "NUL": (json.dumps(good(github_repo_url="\0")), "github_repo_url must have"),
    "long": (json.dumps(good(student_id="x" * 1025)), "student_id must have"),
    "no PEM": (json.dumps(good()), "PEM"),
    "oversize": (json.dumps(good(student_id="x" * 8192)), "too large"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_bad_requests_are_400_without_an_echo(port: int, case: str) -> None:
    """Whatever is wrong with a body: 400, status error, a text that says what.

    Nothing of the request comes back.
    """
    body, told = MALFORMED[case]

    answer = ask(port, "POST", body=body)

    assert answer.status == 400
    assert set(answer.json) == {"status", "error"}
    assert answer.json["status"] == "error"
    assert told in answer.json["error"]
    assert CANARY.encode() not in answer.body


def spki(modulus: int, exponent: int = 65537) -> str:
    """Return a PEM that the policy may not like."""
    return keypolicy.public_pem(
        rsa.RSAPublicNumbers(exponent, modulus).public_key()
    ).decode()


def test_bad_keys_are_400_and_say_what_is_wrong(
    port: int, service_keys: RsaKeys
) -> None:
    r"""A literal \n, a weak key, e = 3, an even modulus, a private key: 400 each."""
    pem = pem_of(service_keys).decode()
    modulus = service_keys.public_key.public_numbers().n
    weak = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    cases = {
        pem.replace("\n", "\\n"): "real newlines",
        spki(weak): "2048 bits",
        spki(modulus, 3): "exponent",
        spki(modulus + 1): "even",
        pem.replace("PUBLIC", "PRIVATE"): "not a public key",
    }

    for public_key, told in cases.items():
        answer = post(port, request_of(service_keys, public_key=public_key))

        assert answer.status == 400
        assert answer.json["status"] == "error"
        assert told in answer.json["error"]


def test_a_pem_from_windows_is_read(port: int, service_keys: RsaKeys) -> None:
    """A BOM, CRLF and no last newline: still the same key."""
    pem = "\ufeff" + pem_of(service_keys).decode().replace("\n", "\r\n").rstrip()

    answer = post(port, request_of(service_keys, public_key=pem))

    assert answer.status == 200


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded"]
)
def test_only_json_is_read(
    port: int, service_keys: RsaKeys, content_type: str | None
) -> None:
    """What a browser may send across origins unasked is refused: 400."""
    body = json.dumps(request_of(service_keys))

    answer = ask(port, "POST", body=body, content_type=content_type)

    assert answer.status == 400
    assert "application/json" in answer.json["error"]


def test_the_size_is_counted_on_the_stream(port: int, authority: Authority) -> None:
    """A chunked body without a length is refused after 8 KiB; the server lives on."""
    chunks = [b"x" * 4096] * 3

    answer = ask(port, "POST", body=iter(chunks))

    assert answer.status == 400
    assert answer.json == {"status": "error", "error": "Request too large"}
    assert ask(port, "GET", "/health").status == 200


def test_other_paths_and_methods(port: int) -> None:
    """404 elsewhere, 405 with Allow for other methods, both as JSON."""
    elsewhere = ask(port, "POST", "/request-seed", body="{}")
    deleted = ask(port, "DELETE")

    assert elsewhere.status == 404
    assert elsewhere.json == {"status": "error", "error": "Not found"}
    assert deleted.status == 405
    assert deleted.headers["allow"] == "GET, HEAD, POST"
    assert deleted.json == {"status": "error", "error": "Method not allowed"}
    assert ask(port, "POST", "/health", body="{}").status == 405


def test_get_says_what_this_is(port: int) -> None:
    """GET / names the program and what to post; HEAD is the same without a body."""
    answer = ask(port, "GET")

    assert answer.status == 200
    assert answer.json["name"] == "otpseal authority"
    assert "public_key" in answer.json["usage"]
    assert ask(port, "HEAD").body == b""


def test_a_failing_store_is_503_and_says_nothing_of_it(
    port: int, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """Requests and health are 503 while the store fails, and recover by themselves."""
    assert ask(port, "GET", "/health").json == {"status": "ok"}
    in_database(tmp_path, "ALTER TABLE storage_keys RENAME TO hidden")
    in_database(tmp_path, "ALTER TABLE issued_seeds RENAME TO gone")

    health = ask(port, "GET", "/health")
    refused = post(port, request_of(service_keys))

    in_database(tmp_path, "ALTER TABLE hidden RENAME TO storage_keys")
    in_database(tmp_path, "ALTER TABLE gone RENAME TO issued_seeds")
    assert health.status == 503
    assert refused.status == 503
    assert refused.json == {"status": "error", "error": "Store unavailable"}
    assert ask(port, "GET", "/health").status == 200
    assert post(port, request_of(service_keys)).status == 200


def test_a_damaged_seed_is_500_and_no_new_seed(
    port: int, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """A seed that does not open is never replaced by another."""
    post(port, request_of(service_keys))
    in_database(tmp_path, "UPDATE issued_seeds SET sealed_seed = x'0102'")

    answer = post(port, request_of(service_keys))

    assert answer.status == 500
    assert answer.json == {"status": "error", "error": "Stored seed cannot be read"}


class Broken(Authority):
    """An authority with a fault nobody thought of."""

    def issue(self, student_id: str, github_repo_url: str, public_key: bytes) -> str:
        """Fail with the input in the message, as foreign code does."""
        raise RuntimeError(f"{student_id} {public_key!r}")


def test_the_unexpected_is_500_and_gives_nothing_away(
    tmp_path: Path,
    other_keys: RsaKeys,
    clock: TurnedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """500 with a static text; the log names the kind and place, not the input."""
    with (
        authority_over(tmp_path, other_keys, clock, kind=Broken) as broken,
        served(create_authority_app(broken)) as port,
    ):
        answer = post(port, good())

    assert answer.status == 500
    assert answer.json == {"status": "error", "error": "Internal error"}
    assert "unexpected RuntimeError" in caplog.text
    assert CANARY not in caplog.text


class Held(Authority):
    """An authority whose answers wait for `go`."""

    go = threading.Event()

    def issue(self, student_id: str, github_repo_url: str, public_key: bytes) -> str:
        """Wait, then answer."""
        assert self.go.wait(30)
        return student_id


def test_a_full_queue_is_429_and_the_rest_is_served(
    tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Work is bounded: what finds the queue full is 429 at once, Retry-After 1.

    Meanwhile health is answered; then every request that waited is.
    """
    room = DECRYPTIONS + WAITING_DECRYPTIONS
    body = json.dumps(good()).encode()
    head = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    Held.go.clear()
    with (
        authority_over(tmp_path, other_keys, clock, kind=Held) as held,
        served(create_authority_app(held)) as port,
        ExitStack() as stack,
    ):
        stack.callback(Held.go.set)
        callers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            for _ in range(room + 5)
        ]
        for caller in callers:
            caller.sendall(head + body)
        refused = [answer for answer in map(_at_once, callers) if answer]
        health = ask(port, "GET", "/health")
        Held.go.set()
        served_later = [_all(caller) for caller in callers]

    assert len(refused) == 5
    assert all(b" 429 " in answer.splitlines()[0] for answer in refused)
    assert all(b"retry-after: 1\r\n" in answer for answer in refused)
    assert health.status == 200
    assert sum(b'"status":"success"' in answer for answer in served_later) == room


def _at_once(caller: socket.socket) -> bytes:
    """Return what comes within a moment, without taking it."""
    caller.settimeout(0.05)
    try:
        return caller.recv(65536, socket.MSG_PEEK)
    except TimeoutError:
        return b""


def _all(caller: socket.socket) -> bytes:
    caller.settimeout(20)
    return b"".join(iter(lambda: caller.recv(65536), b""))


def test_counts_are_settled_and_old_events_pruned(
    authority: Authority, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """A server that starts writes what was only counted, and prunes once."""
    for _ in range(3):
        authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))
    clock.turn(61)
    pruned = threading.Event()

    with served(create_authority_app(authority, prune=pruned.set)):
        assert pruned.wait(10)

    with authority.store.transaction() as tx:
        told = [row.detail for row in tx.newest_events(9) if "reissued" in row.kind]
    assert told[:2] == ['{"count":1}', '{"count":1}']


def test_no_request_is_logged(
    port: int, service_keys: RsaKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a good request nor a refused one leaves its content in the log."""
    caplog.set_level(logging.DEBUG)
    answers: list[Any] = [
        post(port, request_of(service_keys, student_id=CANARY)),
        post(port, good()),
    ]

    assert [answer.status for answer in answers] == [200, 400]
    assert CANARY not in caplog.text
    assert answers[0].json["encrypted_seed"] not in caplog.text
