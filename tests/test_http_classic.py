"""The classic API over real HTTP, row by row and line by line of CONTRACT.md."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TurnedClock
from server_fixture import (
    OTHER_SEED,
    SEED,
    Here,
    Reply,
    at_once,
    call,
    code_at,
    copy_store,
    opened_over,
    otpseal,
    sealed_to,
    served_here,
    serving,
    wrong_code_at,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.config import Access, Settings
from otpseal.errors import ConfigurationError
from otpseal.padding import oaep_encrypt

TOKEN = "correct-horse-battery-staple-0123456789"
CALLS = [
    ("POST", "/decrypt-seed"),
    ("GET", "/generate-2fa"),
    ("POST", "/verify-2fa"),
]
NO_SEED = b'{"error":"Seed not decrypted yet"}'
NOT_OPENED = b'{"error":"Decryption failed"}'
THROTTLED = b'{"error":"Too many attempts"}'


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys) -> Path:
    """A store without a seed, to be copied."""
    directory = tmp_path_factory.mktemp("empty")
    with opened_over(directory, service_keys, TurnedClock(0.0)):
        pass
    return directory


@pytest.fixture(scope="module")
def seeded(
    tmp_path_factory: pytest.TempPathFactory, empty: Path, service_keys: RsaKeys
) -> Path:
    """A store with the contract's seed, to be copied."""
    directory = tmp_path_factory.mktemp("seeded")
    copy_store(empty, directory)
    with opened_over(directory, service_keys, TurnedClock(1_800_000_000.0)) as opened:
        opened.service.import_seed(SEED, source="test")
    return directory


@pytest.fixture(scope="module")
def still(
    tmp_path_factory: pytest.TempPathFactory, empty: Path, service_keys: RsaKeys
) -> Iterator[Here]:
    """A service without a seed, shared by tests that change nothing."""
    directory = tmp_path_factory.mktemp("still")
    copy_store(empty, directory)
    with served_here(directory, service_keys, TurnedClock(1_800_000_000.0)) as here:
        yield here


@pytest.fixture
def bare(
    tmp_path: Path, empty: Path, service_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Here]:
    """A service without a seed."""
    copy_store(empty, tmp_path)
    with served_here(tmp_path, service_keys, clock) as here:
        yield here


@pytest.fixture
def api(
    tmp_path: Path, seeded: Path, service_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Here]:
    """A service with the contract's seed."""
    copy_store(seeded, tmp_path)
    with served_here(tmp_path, service_keys, clock) as here:
        yield here


def said(reply: Reply) -> tuple[int, bytes]:
    """Return what a client looks at first."""
    return reply.status, reply.body


def fail(here: Here, times: int) -> None:
    """Send wrong codes, none of them refused."""
    for _ in range(times):
        assert said(here.verify(here.wrong())) == (200, b'{"valid":false}')


# POST /decrypt-seed


def test_a_sealed_seed_is_stored(bare: Here, service_keys: RsaKeys) -> None:
    """200 {"status":"ok"}, compact JSON, never cached; the codes are the seed's."""
    reply = bare.bring(sealed_to(service_keys))

    assert said(reply) == (200, b'{"status":"ok"}')
    assert reply.header("content-type") == "application/json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("x-content-type-options") == "nosniff"
    assert bare.get("/generate-2fa").json["code"] == code_at(bare.clock())


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"encrypted_seed":null}'])
def test_a_missing_sealed_seed_is_named(still: Here, body: bytes) -> None:
    """400 for a seed that is absent, null or empty, and for no body at all."""
    expected = (400, b'{"error":"Missing encrypted_seed"}')

    assert said(still.post("/decrypt-seed", body)) == expected
    assert said(still.bring("")) == expected


@pytest.mark.parametrize("value", [0, 1.5, True, False, [], {}, ["a"], {"a": "b"}])
def test_a_sealed_seed_is_a_string(still: Here, value: object) -> None:
    """422 with a static text for every other JSON type, empty ones included."""
    expected = (422, b'{"error":"encrypted_seed must be a string"}')

    assert said(still.bring(value)) == expected


def _sealed(keys: RsaKeys, plaintext: bytes, label: bytes | None = None) -> str:
    ciphertext = oaep_encrypt(keys.public_key, plaintext, label=label)
    return base64.b64encode(ciphertext).decode()


HEX = SEED.reveal().hex()
UNOPENABLE: dict[str, Callable[[RsaKeys], str]] = {
    "no base64": lambda _: "!" * 684,
    "blank": lambda _: "  \n",
    "URL-safe alphabet": lambda keys: _with_url_safe_alphabet(keys),  # noqa: PLW0108 - defined below
    "blank inside": lambda keys: _sealed(keys, HEX.encode()).replace("=", " ="),
    "tab inside": lambda keys: _sealed(keys, HEX.encode()).replace("A", "A\t"),
    "truncated": lambda keys: _sealed(keys, HEX.encode())[:-4],
    "without its padding": lambda keys: _sealed(keys, HEX.encode()).rstrip("="),
    "one byte more": lambda keys: base64.b64encode(
        base64.b64decode(_sealed(keys, HEX.encode())) + b"\0"
    ).decode(),
    "full-width letters": lambda _: "\uff21" * 684,
    "lone surrogate": lambda _: "\ud800",
    "NUL": lambda keys: _sealed(keys, HEX.encode()) + "\0",
    "zero": lambda _: base64.b64encode(bytes(512)).decode(),
    "as large as it gets": lambda _: base64.b64encode(b"\xff" * 512).decode(),
    "too long": lambda _: "A" * 4096,
    "63 characters": lambda keys: _sealed(keys, HEX[1:].encode()),
    "65 characters": lambda keys: _sealed(keys, HEX.encode() + b"0"),
    "not hex": lambda keys: _sealed(keys, b"g" * 64),
    "full-width digits": lambda keys: _sealed(keys, ("\uff10" * 64).encode()),
    "two newlines": lambda keys: _sealed(keys, HEX.encode() + b"\n\n"),
    "a blank before": lambda keys: _sealed(keys, b" " + HEX.encode()),
    "raw bytes": lambda keys: _sealed(keys, SEED.reveal()),
    "empty": lambda keys: _sealed(keys, b""),
    "a label": lambda keys: _sealed(keys, HEX.encode(), b"label"),
}


def _with_url_safe_alphabet(keys: RsaKeys) -> str:
    while True:  # a ciphertext without + and / is rare
        sealed = _sealed(keys, HEX.encode())
        if (other := sealed.translate(str.maketrans("+/", "-_"))) != sealed:
            return other


def test_every_failure_to_open_looks_the_same(
    still: Here, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """One 500 with one text and the same headers, whatever was wrong: no oracle."""
    sealed = {name: make(service_keys) for name, make in UNOPENABLE.items()}
    sealed["another key"] = sealed_to(other_keys)

    replies = {name: still.bring(text) for name, text in sealed.items()}

    assert {name: said(reply) for name, reply in replies.items()} == dict.fromkeys(
        sealed, (500, NOT_OPENED)
    )
    assert len({len(reply.headers) for reply in replies.values()}) == 1
    assert said(still.get("/generate-2fa")) == (500, NO_SEED)


@pytest.mark.parametrize(
    "transport",
    [
        lambda text: "\n".join(re.findall(".{1,64}", text)),
        lambda text: "\r\n".join(re.findall(".{1,76}", text)) + "\r\n",
        lambda text: f" \t\r\n{text}\n \t",
    ],
    ids=["64 columns", "76 columns, CRLF", "white space around"],
)
def test_base64_may_be_wrapped(
    bare: Here, service_keys: RsaKeys, transport: Callable[[str], str]
) -> None:
    """Line breaks inside and white space around a sealed seed are tolerated."""
    reply = bare.bring(transport(sealed_to(service_keys)))

    assert said(reply) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("text", [HEX.upper(), HEX + "\n"])
def test_the_plaintext_may_be_upper_case_or_end_a_line(
    bare: Here, service_keys: RsaKeys, text: str
) -> None:
    """64 hex characters of either case, with one trailing newline at most."""
    reply = bare.bring(_sealed(service_keys, text.encode()))

    assert said(reply) == (200, b'{"status":"ok"}')
    assert bare.get("/generate-2fa").json["code"] == code_at(bare.clock())


def test_the_same_seed_again_changes_nothing(api: Here, service_keys: RsaKeys) -> None:
    """200 for a repeated seed; what was spent stays spent."""
    code = api.right()
    assert api.verify(code).json == {"valid": True}

    reply = api.bring(sealed_to(service_keys))

    assert said(reply) == (200, b'{"status":"ok"}')
    assert api.verify(code).json == {"valid": False}


def test_a_different_seed_is_refused(api: Here, service_keys: RsaKeys) -> None:
    """409: whoever has the public key could else hand over the factor."""
    reply = api.bring(sealed_to(service_keys, OTHER_SEED))

    assert said(reply) == (409, b'{"error":"A different seed is already stored"}')
    assert api.get("/generate-2fa").json["code"] == code_at(api.clock())


def test_a_seed_that_fails_leaves_the_good_one(
    api: Here, service_keys: RsaKeys
) -> None:
    """A seed that does not validate never overwrites the stored one."""
    reply = api.bring(_sealed(service_keys, b"0" * 63))

    assert said(reply) == (500, NOT_OPENED)
    assert api.get("/generate-2fa").json["code"] == code_at(api.clock())


# GET /generate-2fa


@pytest.mark.parametrize(
    ("now", "body"),
    [
        (59.0, b'{"code":"031478","valid_for":1}'),
        (59.999, b'{"code":"031478","valid_for":1}'),
        (30.0, b'{"code":"031478","valid_for":30}'),
        (1111111109.0, b'{"code":"032668","valid_for":1}'),
        (1111111111.5, b'{"code":"996921","valid_for":29}'),
        (1234567890.0, b'{"code":"304125","valid_for":30}'),
        (2000000000.0, b'{"code":"434868","valid_for":10}'),
        (20000000000.0, b'{"code":"627517","valid_for":10}'),
    ],
)
def test_the_current_code(api: Here, now: float, body: bytes) -> None:
    """CONTRACT's check values, zero-padded strings in compact JSON, never cached."""
    api.clock.now = now

    reply = api.get("/generate-2fa")

    assert said(reply) == (200, body)
    assert reply.header("content-type") == "application/json"
    assert reply.header("cache-control") == "no-store"


def test_without_a_seed_there_is_no_code(still: Here) -> None:
    """500 with the exercise's text, for generate and for verify."""
    assert said(still.get("/generate-2fa")) == (500, NO_SEED)
    assert said(still.verify("123456")) == (500, NO_SEED)


def test_asking_for_a_code_never_spends_it(api: Here) -> None:
    """However often it was asked for, before and after, a code is accepted once."""
    codes = {api.get("/generate-2fa").json["code"] for _ in range(5)}

    assert codes == {api.right()}
    assert said(api.verify(api.right())) == (200, b'{"valid":true}')
    assert api.get("/generate-2fa").json["code"] == api.right()


# POST /verify-2fa


def test_a_code_is_accepted_once(api: Here) -> None:
    """True, then false: byte for byte, never cached."""
    code = api.right()

    first, second = api.verify(code), api.verify(code)

    assert said(first) == (200, b'{"valid":true}')
    assert first.header("cache-control") == "no-store"
    assert said(second) == (200, b'{"valid":false}')


@pytest.mark.parametrize(
    ("steps", "valid"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_the_window_is_one_step_to_either_side(
    api: Here, steps: int, *, valid: bool
) -> None:
    """Codes of the step before and the step after count, no others."""
    reply = api.verify(code_at(api.clock() + 30 * steps))

    assert reply.json == {"valid": valid}


def test_an_earlier_step_never_comes_back(api: Here) -> None:
    """Once a step is spent, the unspent one before it is spent with it."""
    assert api.verify(code_at(api.clock())).json == {"valid": True}

    assert api.verify(code_at(api.clock() - 30)).json == {"valid": False}
    assert api.verify(code_at(api.clock() + 30)).json == {"valid": True}


@pytest.mark.parametrize("body", [b"", b"\r\n", b"{}", b'{"code":null}'])
def test_a_missing_code_is_named_before_the_seed_is(still: Here, body: bytes) -> None:
    """400 for a code that is absent, null or empty, though there is no seed either."""
    expected = (400, b'{"error":"Missing code"}')

    assert said(still.post("/verify-2fa", body)) == expected
    assert said(still.verify("")) == expected


@pytest.mark.parametrize(
    "value", [123456, 0, 1.5, 1e300, True, False, [], ["123456"], {}, {"code": "1"}]
)
def test_a_code_is_a_string(still: Here, value: object) -> None:
    """422 with the contract's text for every other JSON type, seed or no seed."""
    expected = (422, b'{"error":"code must be a string of six digits"}')

    assert said(still.verify(value)) == expected


MALFORMED = [
    " ",
    "12345",
    "1234567",
    "000000000",
    " {}",
    "{} ",
    "{}\n",
    "{}\0",
    "\t{}",
    "{}\u200b",
    "\ufeff{}",
    "-12345",
    "+12345",
    "1234.5",
    "12 456",
    "1_2345",
    "0x1234",
    "12345a",
    "abcdef",
    "\uff11\uff12\uff13\uff14\uff15\uff16",  # full-width
    "\u0661\u0662\u0663\u0664\u0665\u0666",  # Arabic-Indic
    "\u00b9\u00b2\u00b3\u00b9\u00b2\u00b3",  # superscript
    "12345\u0664",
    "\ud800",
    "\U0001f511",
    "x" * 5000,
]


def test_what_is_not_six_ascii_digits_is_not_valid_and_costs_nothing(
    api: Here,
) -> None:
    """200 false, even for the right code with a blank, and no attempt is counted."""
    texts = [text.format(api.right()) for text in MALFORMED]
    full_width = str.maketrans("0123456789", "".join(map(chr, range(0xFF10, 0xFF1A))))
    texts.append(api.right().translate(full_width))

    replies = [said(api.verify(text)) for text in texts]

    assert replies == [(200, b'{"valid":false}')] * len(texts)
    account = api.service.account()
    assert account is not None
    assert account.state.budget.failures == 0
    assert said(api.verify(api.right())) == (200, b'{"valid":true}')


def test_the_order_of_checks(bare: Here, service_keys: RsaKeys) -> None:
    """Type, missing, no seed, disabled, six-digit shape, throttle, code."""
    text = [("Content-Type", "text/plain")]
    wrong_type = call(bare.port, "POST", "/verify-2fa", b"{}", text)

    assert wrong_type.status == 415
    assert bare.verify(None).status == 400
    assert bare.verify(7).status == 422
    assert said(bare.verify("malformed")) == (500, NO_SEED)

    bare.bring(sealed_to(service_keys))
    bare.service.accounts.disable()

    assert bare.verify(None).status == 400
    assert bare.verify(7).status == 422
    assert said(bare.verify("malformed")) == (403, b'{"error":"Account disabled"}')
    assert said(bare.verify(bare.right())) == (403, b'{"error":"Account disabled"}')

    bare.service.accounts.enable()
    fail(bare, 5)

    assert bare.verify(None).status == 400
    assert said(bare.verify("malformed")) == (200, b'{"valid":false}')
    assert said(bare.verify(bare.right())) == (429, THROTTLED)


# The throttle


def test_the_fifth_wrong_code_starts_a_wait(api: Here) -> None:
    """30 s of 429 for right and wrong codes alike; Retry-After counts down.

    Rounded up, so that whoever waits as he was told is not refused again; and the
    refused attempts neither lengthen the wait nor count.
    """
    fail(api, 5)

    for elapsed, left in [
        (0, "30"),
        (0.25, "30"),
        (10, "20"),
        (18.75, "1"),
        (0.9, "1"),
    ]:
        api.clock.turn(elapsed)
        for code in (api.wrong(), api.right(), "000000"):
            reply = api.verify(code)
            assert said(reply) == (429, THROTTLED)
            assert reply.header("retry-after") == left

    api.clock.turn(0.1)
    assert said(api.verify(api.right())) == (200, b'{"valid":true}')


def test_four_wrong_codes_cost_nothing(api: Here) -> None:
    """The wait begins with the fifth; a right code before it resets the count."""
    fail(api, 4)
    assert api.verify(api.right()).json == {"valid": True}

    fail(api, 4)
    api.next_step()
    assert api.verify(api.right()).json == {"valid": True}


def test_each_wrong_code_after_a_wait_doubles_it_up_to_a_day(api: Here) -> None:
    """30 s, 60 s, 120 s, ... 86,400 s and no more; the 100th disables the account."""
    fail(api, 4)
    waits = []
    for _ in range(5, 100):
        fail(api, 1)
        reply = api.verify(api.wrong())
        assert said(reply) == (429, THROTTLED)
        waits.append(int(reply.header("retry-after") or 0))
        api.clock.turn(waits[-1])

    expected = [min(30 * 2**doublings, 86_400) for doublings in range(95)]
    assert waits == expected
    fail(api, 1)  # the hundredth
    assert said(api.verify(api.right())) == (403, b'{"error":"Account disabled"}')
    api.clock.turn(10 * 86_400)
    assert said(api.verify(api.right())) == (403, b'{"error":"Account disabled"}')
    assert api.get("/generate-2fa").status == 200

    api.service.accounts.enable()
    assert said(api.verify(api.right())) == (200, b'{"valid":true}')


def test_a_right_code_resets_the_wait(api: Here) -> None:
    """After it, five more wrong codes are free until the first wait of 30 s."""
    fail(api, 5)
    api.clock.turn(30)
    fail(api, 1)
    api.clock.turn(60)
    assert api.verify(api.right()).json == {"valid": True}

    fail(api, 5)

    assert api.verify(api.wrong()).header("retry-after") == "30"


def test_replays_never_count(api: Here) -> None:
    """A double click, or an attacker with an old code, locks nobody out."""
    code = api.right()
    assert api.verify(code).json == {"valid": True}

    replies = [said(api.verify(code)) for _ in range(20)]

    assert replies == [(200, b'{"valid":false}')] * 20
    fail(api, 5)
    assert api.verify(code).status == 429


def test_a_wait_survives_a_restart(
    tmp_path: Path, seeded: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """The throttle's state rests in the store."""
    copy_store(seeded, tmp_path)
    with served_here(tmp_path, service_keys, clock) as here:
        fail(here, 5)

    clock.turn(10)
    with served_here(tmp_path, service_keys, clock) as here:
        reply = here.verify(here.right())

    assert said(reply) == (429, THROTTLED)
    assert reply.header("retry-after") == "20"


# Exactly once


def test_a_code_stays_spent_after_a_restart(
    tmp_path: Path, seeded: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Accepted before the stop, refused after the start."""
    copy_store(seeded, tmp_path)
    with served_here(tmp_path, service_keys, clock) as here:
        assert here.verify(here.right()).json == {"valid": True}

    with served_here(tmp_path, service_keys, clock) as here:
        assert here.verify(here.right()).json == {"valid": False}


def test_two_servers_on_one_store_accept_a_code_once(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """Two real processes are sent the same code at once, step after step."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    shared = tmp_path / "shared"
    with (
        serving(tmp_path / "a", service_keys, data_dir=shared) as first,
        serving(tmp_path / "b", service_keys, data_dir=shared) as second,
    ):
        assert first.bring(sealed_to(service_keys)).status == 200
        code = second.get("/generate-2fa").json["code"]

        posts = [
            lambda server=server: server.verify(code) for server in [first, second] * 8
        ]
        verdicts = [reply.json["valid"] for reply in at_once(*posts)]

    assert sorted(verdicts) == [False] * 15 + [True]


# Methods and types


def test_wrong_methods(still: Here) -> None:
    """405 that names the right method, for every other one; HEAD without a body."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD"]
    for right, path in CALLS:
        for method in methods:
            if method == right:
                continue
            reply = call(still.port, method, path)
            body = b"" if method == "HEAD" else b'{"error":"Method not allowed"}'
            assert said(reply) == (405, body), (method, path)
            assert reply.header("allow") == right


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json-patch+json",
        "application/vnd.api+json",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/json, text/plain",
        "application /json",
    ],
)
def test_only_json_is_read(still: Here, kind: str | None) -> None:
    """415 on both posts: what a web page can send without asking first is refused."""
    headers = [] if kind is None else [("Content-Type", kind)]
    for path in ("/decrypt-seed", "/verify-2fa"):
        reply = call(still.port, "POST", path, b'{"code":"123456"}', headers)
        expected = b'{"error":"Content-Type must be application/json"}'
        assert said(reply) == (415, expected)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        " application/json ; charset=utf-8",
    ],
)
def test_json_by_its_usual_names_is_read(api: Here, kind: str) -> None:
    """As python-requests, curl, axios, .NET and Java name it."""
    body = json.dumps({"code": api.right()}).encode()

    reply = call(api.port, "POST", "/verify-2fa", body, [("Content-Type", kind)])

    assert said(reply) == (200, b'{"valid":true}')


def test_further_fields_are_ignored(api: Here) -> None:
    """Clients send more than they need to."""
    reply = api.post("/verify-2fa", {"code": api.right(), "user": "someone", "x": [1]})

    assert said(reply) == (200, b'{"valid":true}')


# Who may call


@pytest.fixture
def guarded(
    tmp_path: Path, seeded: Path, service_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Here]:
    """A service that wants a token; the file ends as editors end files."""
    copy_store(seeded, tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN + "\r\n")
    settings = {"classic_access": "token", "classic_token_file": token}
    with served_here(tmp_path, service_keys, clock, settings=settings) as here:
        yield here


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Token {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN.upper()}")],
        [("Authorization", f"Bearer,{TOKEN}")],
        [("Authorization", f"Bearer\t{TOKEN}")],
        [("Authorization", f"Bearer {TOKEN} {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}")] * 2,
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")],
        [("X-Authorization", f"Bearer {TOKEN}")],
        [("Authorization", "Bearer \xff\xfe")],
    ],
)
def test_without_the_token_nothing_is_answered(
    guarded: Here, headers: list[tuple[str, str]]
) -> None:
    """401 on every call and method, before anything else is looked at."""
    requests = [*CALLS, ("DELETE", "/verify-2fa"), ("GET", "/decrypt-seed")]
    for method, path in requests:
        body = b"no json" if method == "POST" else None
        reply = call(guarded.port, method, path, body, headers)
        assert said(reply) == (401, b'{"error":"Unauthorized"}'), (method, path)
        assert reply.header("www-authenticate") == "Bearer"
        assert reply.header("cache-control") == "no-store"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_with_the_token_everything_is(guarded: Here, scheme: str) -> None:
    """The scheme's case does not matter (RFC 9110 section 11.1)."""
    headers = {"Authorization": f"{scheme} {TOKEN}"}

    code = call(guarded.port, "GET", "/generate-2fa", headers=headers).json["code"]
    reply = guarded.post("/verify-2fa", {"code": code}, headers)

    assert said(reply) == (200, b'{"valid":true}')


def test_health_needs_no_token(guarded: Here) -> None:
    """Health checks and the greeting say nothing that is worth a token."""
    assert said(guarded.get("/health")) == (200, b'{"status":"ok"}')
    assert guarded.get("/").status == 200


def test_access_off(
    tmp_path: Path, seeded: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """404 on the classic calls as on any unknown path; health still answers."""
    copy_store(seeded, tmp_path)
    settings = {"classic_access": "off"}
    with served_here(tmp_path, service_keys, clock, settings=settings) as here:
        for method, path in [*CALLS, ("GET", "/verify-2fa"), ("GET", "/unknown")]:
            reply = call(here.port, method, path, b"{}")
            assert said(reply) == (404, b'{"error":"Not found"}')

        assert said(here.get("/health")) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "0", "", "::ffff:127.0.0.1", "localhost.a"]
)
def test_only_loopback_is_open_by_itself(host: str) -> None:
    """What is not surely loopback needs a choice; 127.0.0.0/8 and ::1 do not."""
    with pytest.raises(ConfigurationError, match="OTPSEAL_CLASSIC_ACCESS"):
        Settings(host=host).resolved_access()

    for own in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert Settings(host=own).resolved_access() is Access.OPEN


def test_another_address_needs_a_choice(tmp_path: Path) -> None:
    """Exit 2 that names what to set, before any key or store is made."""
    done = otpseal("serve", "--port", "0", host="0.0.0.0", data_dir=tmp_path / "data")

    assert done.returncode == 2
    assert done.stdout == ""
    for name in ("CLASSIC_ACCESS=token", "CLASSIC_TOKEN_FILE", "CLASSIC_ACCESS=off"):
        assert f"OTPSEAL_{name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n" + b"a" * 40, "is empty"),
        (b"a" * 31, "shorter than 32"),
        (b"a" * 31 + b"\n", "shorter than 32"),
        (b"a" * 5000, "too large"),
        (b"a" * 40 + b" ", "no HTTP header carries"),
        (("a" * 40).encode("utf-16"), "no HTTP header carries"),
    ],
)
def test_a_token_that_cannot_work_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """The error names the variable and never the token."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    settings = Settings(classic_access=Access.TOKEN, classic_token_file=path)

    with pytest.raises(ConfigurationError, match=reason) as caught:
        settings.classic_token()

    assert "OTPSEAL_CLASSIC_TOKEN_FILE" in str(caught.value)
    assert "aaaa" not in str(caught.value)


def test_token_access_without_a_token_is_refused(tmp_path: Path) -> None:
    """Exit 2 that says which variable is missing, before any key or store is made."""
    done = otpseal("serve", data_dir=tmp_path / "data", port=0, classic_access="token")

    assert done.returncode == 2
    assert "needs OTPSEAL_CLASSIC_TOKEN_FILE" in done.stderr
    assert not (tmp_path / "data").exists()


# The pages


def test_health(api: Here) -> None:
    """200 {"status":"ok"}, never cached."""
    reply = api.get("/health")

    assert said(reply) == (200, b'{"status":"ok"}')
    assert reply.header("content-type") == "application/json"
    assert reply.header("cache-control") == "no-store"


def test_the_root_is_json_for_clients_and_a_page_for_browsers(still: Here) -> None:
    """By Accept; the page loads nothing and may not be framed."""
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

    for accept in ("*/*", "application/json"):
        reply = still.get("/", Accept=accept)
        assert reply.status == 200
        assert reply.header("content-type") == "application/json"
        assert reply.json["status"] == "ok"
    page = still.get("/", Accept=browser)

    assert page.status == 200
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in (page.header("content-security-policy") or "")
    assert "frame-ancestors 'none'" in (page.header("content-security-policy") or "")
    assert b"<script" not in page.body


@pytest.mark.parametrize(
    "path",
    ["/unknown", "/verify-2fa/", "//verify-2fa", "/VERIFY-2FA", "/redoc"],
)
def test_unknown_paths(still: Here, path: str) -> None:
    """404 in the contract's form, with no redirect to a path that was not asked for."""
    reply = still.get(path)

    assert said(reply) == (404, b'{"error":"Not found"}')


def test_the_server_says_little_about_itself(still: Here) -> None:
    """No Server header to look versions up by."""
    for path in ("/", "/health", "/generate-2fa", "/unknown"):
        assert still.get(path).header("server") is None


def test_a_wrong_code_is_wrong_at_the_edge(api: Here) -> None:
    """The helper's wrong code is wrong: else the throttle's tests prove little."""
    near = {code_at(api.clock() + 30 * step) for step in range(-1, 2)}

    assert wrong_code_at(api.clock()) not in near
