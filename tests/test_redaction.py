"""Redaction: no secret passes by its field's name or by its shape."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otpseal.redaction import MASK, redact, redact_text

SEEDS = st.binary(min_size=20, max_size=64)
#: Text around a secret that cannot be taken for a piece of it.
AROUND = st.text(alphabet=" .,:;=\"'()[]{}<>\n", max_size=8)
SECRET_NAMES = [
    "code",
    "seed",
    "secret",
    "token",
    "authorization",
    "Authorization",
    "passphrase",
    "password",
    "encrypted_seed",
    "sealed_seed",
    "recovery_code",
    "recoveryCodes",
    "classic-token",
    "otpauth_uri",
]


def forms(seed: bytes) -> list[str]:
    """Return how a seed is written, where that is long enough to be known."""
    base32 = base64.b32encode(seed).decode().rstrip("=")
    texts = [seed.hex(), seed.hex().upper(), base32, base32.lower()]
    plain = base64.b64encode(seed).decode()
    safe = base64.urlsafe_b64encode(seed).decode()
    return texts + [text for text in (plain, safe) if len(text.rstrip("=")) >= 40]


@given(SEEDS, AROUND, AROUND, st.sampled_from(["event", "path", "note", "x"]))
def test_seeds_are_known_by_their_shape(
    seed: bytes, before: str, after: str, name: str
) -> None:
    """In any field, whatever stands around: hex, base32, base64 of both alphabets."""
    for text in forms(seed):
        line = json.dumps(redact({name: f"{before}{text}{after}"}))

        assert text not in line
        assert text[:16] not in line


@given(SEEDS, st.text(alphabet="abcXYZ019_-/+=", max_size=6))
def test_a_seed_glued_to_something_is_known(seed: bytes, glued: str) -> None:
    """No boundary is needed: `seed=...`, `x...`."""
    for text in forms(seed):
        assert text not in redact_text(glued + text)
        assert text not in redact_text(text + glued)


@given(st.binary(min_size=16, max_size=19))
@example(b'\x00\x00\x00""*****22::RR')
def test_the_shortest_seeds(seed: bytes) -> None:
    """Imported seeds may have 16 bytes: 32 hex characters, 26 of base32."""
    base32 = base64.b32encode(seed).decode().rstrip("=")

    assert MASK == redact_text(seed.hex())
    assert MASK == redact_text(base32)


VALUES = st.recursive(
    st.text() | st.integers() | st.binary(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(SECRET_NAMES), VALUES)
def test_secret_fields_are_masked_whole(name: str, value: object) -> None:
    """Whatever they hold, at any depth."""
    assert {name: MASK} == redact({name: value})
    assert {"outer": [{name: MASK}]} == redact({"outer": [{name: value}]})


@given(
    st.from_regex(r"[0-9]{6,8}", fullmatch=True),
    st.sampled_from(["body", "query", "value", "submitted", "exit_code", "code_log"]),
    AROUND,
)
def test_codes_in_suspicious_fields(code: str, name: str, around: str) -> None:
    """6 to 8 digits that stand alone, as text and as a number."""
    assert code not in json.dumps(redact({name: f"{around}{code}{around}"}))
    number = str(int(code))
    if len(number) >= 6:
        assert number not in json.dumps(redact({name: int(code)}))


@given(st.text(alphabet="ABCDEFabcdef0189_-", min_size=8, max_size=50))
def test_tokens_and_uris(text: str) -> None:
    """By their prefix, however short they are."""
    assert text not in redact_text(f"got otpseal_{text}!")
    assert text not in redact_text(f"otpauth://totp/x?secret={text}&digits=6")
    assert text not in redact_text(f"otpauth-migration://offline?data={text}")
    assert text not in redact_text(f"header: Bearer {text}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_any_fields_become_json(fields: dict[str, object]) -> None:
    """Nothing makes a log line fail; doing it twice changes nothing."""
    once = redact(fields)

    assert once == json.loads(json.dumps(once))
    assert once == redact(once)


def test_foreign_objects() -> None:
    """An exception is its type; an object is its redacted text; depth has an end."""
    deep: list[object] = []
    deep.append(deep)

    assert {"x": "ValueError"} == redact({"x": ValueError("ab" * 32)})
    assert {"x": "/var/lib/otpseal"} == redact({"x": Path("/var/lib/otpseal")})
    assert MASK in json.dumps(redact({"x": deep}))
    assert {MASK: 1} == redact({"ab" * 32: 1})


@pytest.mark.parametrize(
    "text",
    [
        "making an RSA-4096 key for the new store",
        "/var/lib/otpseal/production/data/keys cannot be looked into",
        "the code log has had no line for more than 150 s",
        "OTPSEAL_CLASSIC_TOKEN_FILE is set, but there is no such setting",
        "2026-11-25T02:26:00.123Z",
        "GET /v1/accounts/{account}/recovery-codes 200",
        "3f2b8c1d-9e47-4a8b-8c1d-2b3f4a5b6c7d",
        "port 8080, 1048576 bytes",
    ],
)
def test_ordinary_lines_stay(text: str) -> None:
    """Else nobody could read the log."""
    assert text == redact_text(text)


def test_what_is_public_stays() -> None:
    """Statuses, key ids, a proxy's request id (nginx makes them of 32 hex digits)."""
    fields = {
        "status": 200,
        "status_code": 404,
        "error_code": "store_unavailable",
        "kid": "x" * 43,
        "request_id": "0123456789abcdef" * 2,
        "duration_ms": 1.25,
        "missing": None,
    }

    assert fields == redact(fields)
