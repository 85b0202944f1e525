"""The authority's client against servers that misbehave."""

import base64
import gzip
import json
import os
import socket
import time
from typing import Any

import pytest
from authority_fixtures import (
    REPOSITORY,
    STUDENT,
    Behaviour,
    misbehaving,
    opened_by,
    pem_of,
    replying,
)

from otpseal import envelope, keypolicy
from otpseal.adapters.authority_client import (
    MAX_REPLY_BYTES,
    Patience,
    request_sealed_seed,
)
from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.errors import AuthorityUnusable, KeyRefused
from otpseal.secret import Secret

#: Long enough for loopback, short enough for a test.
QUICK = Patience(connect_s=2.0, total_s=10.0, retry_after_s=0.05)
SEED = bytes(range(32))


def sealed_to(keys: RsaKeys) -> str:
    """Return SEED sealed to a key."""
    return envelope.seal(Secret(SEED), keys.public_key)


def success(keys: RsaKeys) -> Behaviour:
    """Return a well-behaved answer."""
    body = {
        "status": "success",
        "encrypted_seed": sealed_to(keys),
        "message": "Seed generated",
    }
    return replying(body)


def ask(url: str, keys: RsaKeys, patience: Patience = QUICK) -> str:
    """Make the usual request."""
    return request_sealed_seed(
        url,
        student_id=STUDENT,
        github_repo_url=REPOSITORY,
        public_key=pem_of(keys),
        patience=patience,
    )


def refused(behaviour: Behaviour, keys: RsaKeys, patience: Patience = QUICK) -> str:
    """Return what the client says of a server, which it must not have asked twice."""
    with misbehaving(behaviour) as server:
        with pytest.raises(AuthorityUnusable) as raised:
            ask(server.url, keys, patience)
        # A connection that was given up before anything was sent is no request.
        assert len([request for request in server.requests if request]) == 1
    return str(raised.value)


def test_a_good_answer_is_returned_as_it_came(service_keys: RsaKeys) -> None:
    """The sealed seed opens; the request had the three fields, and JSON newlines."""
    with misbehaving(success(service_keys)) as server:
        sealed = ask(server.url, service_keys)
        (request,) = server.requests

    assert opened_by(service_keys, sealed) == SEED
    head, _, body = request.partition(b"\r\n\r\n")
    assert json.loads(body) == {
        "student_id": STUDENT,
        "github_repo_url": REPOSITORY,
        "public_key": pem_of(service_keys).decode(),
    }
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"content-type: application/json" in head.lower()


def test_an_answer_without_status_is_good_enough(service_keys: RsaKeys) -> None:
    """CONTRACT: clients may go by the presence of encrypted_seed."""
    reply = replying({"encrypted_seed": sealed_to(service_keys)})
    with misbehaving(reply) as server:
        assert len(ask(server.url, service_keys)) == 684


def test_other_key_sizes_have_other_lengths() -> None:
    """For a 3072-bit key the right length is 512 characters."""
    keys = RsaKeys(generate_private_key(3072))
    with misbehaving(success(keys)) as server:
        assert len(ask(server.url, keys)) == 512


def test_only_the_public_key_leaves_the_machine(service_keys: RsaKeys) -> None:
    """A private key in the same PEM file is not sent along."""
    pem = pem_of(service_keys)
    both = pem + keypolicy.private_pem(service_keys._private_key)
    with misbehaving(success(service_keys)) as server:
        request_sealed_seed(
            server.url,
            student_id=STUDENT,
            github_repo_url=REPOSITORY,
            public_key=both,
            patience=QUICK,
        )
        (request,) = server.requests

    assert b"PRIVATE" not in request


def test_a_key_against_the_policy_is_not_sent(service_keys: RsaKeys) -> None:
    """A weak key is refused before anyone is asked."""
    weak = keypolicy.public_pem(generate_private_key(2048).public_key())
    with misbehaving(success(service_keys)) as server:
        with pytest.raises(KeyRefused, match="2048"):
            request_sealed_seed(
                server.url,
                student_id=STUDENT,
                github_repo_url=REPOSITORY,
                public_key=weak,
            )
        assert server.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(service_keys: RsaKeys, status: int) -> None:
    """A redirect is an error that names the place; the place is not asked."""
    with misbehaving(success(service_keys)) as elsewhere:
        told = refused(
            replying(b"", f"{status} Elsewhere", f"Location: {elsewhere.url}"),
            service_keys,
        )
        assert elsewhere.requests == []

    assert elsewhere.url in told
    assert "not followed" in told


def test_an_endless_answer_is_cut_off(service_keys: RsaKeys) -> None:
    """After 64 KiB of a body without an end the client hangs up."""
    sent = 0

    def behave(connection: socket.socket, _: bytes) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
            sent += 4096

    told = refused(behave, service_keys)

    assert str(MAX_REPLY_BYTES) in told
    assert sent < 32_000_000  # what fits into socket buffers, not what was offered


def test_a_compressed_answer_is_not_unfolded(service_keys: RsaKeys) -> None:
    """A bomb of 60 MB in 60 KB stays folded, and is no JSON."""
    bomb = gzip.compress(b" " * 60_000_000)
    assert len(bomb) < MAX_REPLY_BYTES

    told = refused(replying(bomb, "200 OK", "Content-Encoding: gzip"), service_keys)

    assert "not a JSON object" in told


def drip(lead: bytes) -> Behaviour:
    """Return a behaviour that sends `lead`, then a byte now and then, for ever."""

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(lead)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return behave


def silent(connection: socket.socket, _: bytes) -> None:
    """Read the request and say nothing until the client goes."""
    connection.recv(1)


@pytest.mark.parametrize(
    "behaviour",
    [
        silent,
        drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"),
    ],
    ids=["silent", "slow head", "slow body"],
)
def test_a_slow_answer_is_given_up(service_keys: RsaKeys, behaviour: Behaviour) -> None:
    """The whole exchange has one deadline: no byte now and then prolongs it."""
    patience = Patience(connect_s=1, total_s=0.6, retry_after_s=0.01)
    before = time.monotonic()

    told = refused(behaviour, service_keys, patience)

    assert time.monotonic() - before < 5
    assert "within 0.6 s" in told


def hang_up(_connection: socket.socket, _: bytes) -> None:
    """Close without a word."""


def reset(connection: socket.socket, _: bytes) -> None:
    """Close with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


@pytest.mark.parametrize("failure", [hang_up, reset])
def test_a_lost_connection_is_tried_once_more(
    service_keys: RsaKeys, failure: Behaviour
) -> None:
    """A connection lost before the answer is made again, after the back-off."""
    patience = Patience(connect_s=2, total_s=10, retry_after_s=0.3)
    before = time.monotonic()

    with misbehaving(failure, success(service_keys)) as server:
        sealed = ask(server.url, service_keys, patience)
        assert len(server.requests) == 2

    assert opened_by(service_keys, sealed) == SEED
    assert time.monotonic() - before >= 0.3


def test_a_connection_lost_twice_is_given_up(service_keys: RsaKeys) -> None:
    """There is one retry, not two; the message says what to check."""
    with misbehaving(hang_up) as server:
        with pytest.raises(AuthorityUnusable, match="Check the address"):
            ask(server.url, service_keys)
        assert len(server.requests) == 2


def test_nobody_there(service_keys: RsaKeys) -> None:
    """A closed port is an error that names the host and says what to check."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with pytest.raises(AuthorityUnusable, match=r"127\.0\.0\.1.*that the authority"):
        ask(f"http://127.0.0.1:{port}/", service_keys)


def test_an_answer_that_breaks_off_is_not_asked_for_again(
    service_keys: RsaKeys,
) -> None:
    """Once an answer began, its end is an error and no reason to retry."""

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")

    assert "broke off" in refused(behave, service_keys)


@pytest.mark.parametrize(
    "status", ["500 Oh", "503 Later", "429 Slow", "404 What", "201 Created"]
)
def test_other_statuses_are_errors(service_keys: RsaKeys, status: str) -> None:
    """Only 200 is an answer, whatever the body says; none of these is retried."""
    reply = {"encrypted_seed": sealed_to(service_keys), "error": "no luck"}

    told = refused(replying(reply, status), service_keys)

    assert f"HTTP {status[:3]}" in told
    assert "no luck" in told


def test_status_error_with_200_is_an_error(service_keys: RsaKeys) -> None:
    """`"status":"error"` is believed even beside a sealed seed."""
    reply = {
        "status": "error",
        "error": "already bound",
        "encrypted_seed": sealed_to(service_keys),
    }

    assert "already bound" in refused(replying(reply), service_keys)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'"text"', b"null", b"[" * 60_000, b"\xff\xfe{}"],
    ids=["empty", "html", "list", "text", "null", "deep", "utf-16"],
)
def test_what_is_no_json_object_is_refused(service_keys: RsaKeys, body: bytes) -> None:
    """Anything but a JSON object is an error that hints at a wrong address."""
    told = refused(replying(body), service_keys)

    assert "not a JSON object" in told


def wrong_seeds(keys: RsaKeys) -> dict[str, Any]:
    """Return what is no sealed seed for a 4096-bit key."""
    right = sealed_to(keys)
    return {
        "missing": None,
        "number": 684,
        "empty": "",
        "one short": right[:-1],
        "one long": right + "A",
        "line break at the end": right + "\n",
        "line break inside": right[:64] + "\n" + right[64:],
        "blank for a character": " " + right[1:],
        "URL-safe": "-_" + right[2:],
        "padding missing": right[:-1] + "A",
        "other spelling of the last bits": right[:-2] + _next(right[-2]) + "=",
        "3072 bits": base64.b64encode(bytes(384)).decode(),
        "full-width": "\uff21" + right[1:],
    }


def _next(char: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(char) + 1]


def test_what_is_no_sealed_seed_is_refused(service_keys: RsaKeys) -> None:
    """Exactly 684 characters of standard base64, or nothing is handed on."""
    for name, sealed in wrong_seeds(service_keys).items():
        reply = replying({"status": "success", "encrypted_seed": sealed})

        told = refused(reply, service_keys)

        assert "684 characters" in told, name


def test_the_authoritys_own_words_are_made_harmless(service_keys: RsaKeys) -> None:
    """Escape sequences and line breaks become ?; at most 200 characters are shown."""
    words = "\x1b[2Jgone\nerror: ok\u202e" + "x" * 5000

    told = refused(replying({"error": words}, "400 Bad"), service_keys)

    assert "?[2Jgone?error: ok?xxx" in told
    assert told.isascii()
    assert told.isprintable()
    assert len(told) < 300


@pytest.mark.parametrize("words", [None, {}, 7, ""])
def test_an_error_without_words(service_keys: RsaKeys, words: object) -> None:
    """An error that is no text is said to have no reason."""
    told = refused(replying({"error": words}, "400 Bad"), service_keys)

    assert told.endswith("it gave no reason")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "authority",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http:///path",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "javascript:alert(1)",
        "http://exa\nmple/",
    ],
)
def test_what_is_no_web_address_is_refused(service_keys: RsaKeys, url: str) -> None:
    """Only http and https with a host are asked."""
    with pytest.raises(AuthorityUnusable, match="address"):
        ask(url, service_keys)


def test_credentials_in_the_address_are_refused(service_keys: RsaKeys) -> None:
    """A password in a URL would end in process lists; the message repeats nothing."""
    with pytest.raises(AuthorityUnusable, match="password") as raised:
        ask("http://user:hunter2@127.0.0.1/", service_keys)

    assert "hunter2" not in str(raised.value)


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("_no_proxies")
def test_loopback_is_asked_past_the_proxy(
    service_keys: RsaKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment never sees a request to this machine."""
    with (
        misbehaving(success(service_keys)) as proxy,
        misbehaving(success(service_keys)) as server,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        ask(server.url, service_keys)
        ask(server.url.replace("127.0.0.1", "localhost"), service_keys)

        assert len(server.requests) == 2
        assert proxy.requests == []


@pytest.mark.usefixtures("_no_proxies")
def test_others_are_asked_through_the_proxy_and_plain_http_is_warned_of(
    service_keys: RsaKeys,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A proxy from the environment is used beyond loopback; plain http is warned of."""
    with misbehaving(success(service_keys)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        request_sealed_seed(
            "http://authority.example/seeds",
            student_id=STUDENT,
            github_repo_url=REPOSITORY,
            public_key=pem_of(service_keys),
            insecure_http=True,
            patience=QUICK,
        )
        (request,) = proxy.requests

    assert request.startswith(b"POST http://authority.example/seeds HTTP/1.1\r\n")
    assert "plain http" in caplog.text


def test_loopback_over_plain_http_is_no_warning(
    service_keys: RsaKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """On one machine there is no way to sit on."""
    with misbehaving(success(service_keys)) as server:
        ask(server.url, service_keys)

    assert caplog.text == ""
