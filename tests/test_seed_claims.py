"""Claims: what is written is read; anything else is refused, and by no input leaked."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_fixture import encoded

from otpseal import seed_claims
from otpseal.errors import ClaimsRefused
from otpseal.secret import Secret
from otpseal.seed_claims import MAX_SEQUENCE, SeedClaims
from otpseal.totp import OtpType, Parameters

TIMES = st.integers(0, 2**40)
CLAIMS = st.builds(
    lambda at, lasts, **given: SeedClaims(issued_at=at, expires_at=at + lasts, **given),
    at=TIMES,
    lasts=st.integers(1, 2**30),
    issuer=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    audience=st.binary(min_size=32, max_size=32).map(encoded),
    account=st.sampled_from(["default", "shop/alice", "a.b/c-d@e"]),
    seed=st.binary(min_size=16, max_size=64).map(Secret),
    jti=st.binary(min_size=16, max_size=16).map(encoded),
    sequence=st.integers(1, MAX_SEQUENCE),
    nonce=st.binary(min_size=16, max_size=16),
    parameters=st.builds(
        Parameters,
        algorithm=st.sampled_from(["SHA1", "SHA256", "SHA512"]),
        digits=st.integers(6, 8),
        period=st.integers(15, 300),
        type=st.sampled_from(OtpType),
        window=st.integers(0, 1),
    ),
    counter=st.integers(0, 1000),
    service_name=st.text("aäö €x", max_size=20),
    label=st.text("aäö €x", max_size=20),
)

ONE = SeedClaims(
    issuer="hq",
    audience="k" * 43,
    account="shop/alice",
    seed=Secret(b"canary-of-a-seed-20b"),
    issued_at=1_800_000_000,
    expires_at=1_800_003_600,
    jti="j" * 21 + "A",
    sequence=7,
    nonce=bytes(16),
)


def content() -> dict[str, Any]:
    """Return the JSON of `ONE`, to be spoilt."""
    parsed: dict[str, Any] = json.loads(seed_claims.to_json(ONE))
    return parsed


@given(CLAIMS)
def test_what_is_written_is_read(claims: SeedClaims) -> None:
    """Every claim comes back as it was."""
    assert claims == seed_claims.parse(seed_claims.to_json(claims))


def test_parameters_have_defaults() -> None:
    """An authority may leave all but the seed out: then it is what every app takes."""
    spoilt = content()
    spoilt["otp"] = {"secret": spoilt["otp"]["secret"]}

    assert ONE == seed_claims.parse(json.dumps(spoilt).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(payload: bytes) -> None:
    """No input does anything but be claims, or be refused."""
    with pytest.raises(ClaimsRefused):
        seed_claims.parse(payload)


@pytest.mark.parametrize("name", [*content(), "otp.secret"])
def test_a_member_that_is_missing(name: str) -> None:
    """Each member must be there."""
    spoilt = content()
    holder, _, last = name.rpartition(".")
    del (spoilt[holder] if holder else spoilt)[last]

    with pytest.raises(ClaimsRefused):
        seed_claims.parse(json.dumps(spoilt).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", "HQ"),
        ("iss", ""),
        ("iss", "hq\n"),
        ("aud", "short"),
        ("aud", ["k" * 43]),
        ("sub", "Shop/alice"),
        ("sub", "shop/../alice"),
        ("iat", -1),
        ("iat", 1.5),
        ("iat", True),
        ("exp", 1_800_000_000),
        ("exp", "1800003600"),
        ("jti", "j" * 23),
        ("jti", "j" * 21 + "="),
        ("seq", 0),
        ("seq", 2**53),
        ("nonce", "AAAA"),
        ("nonce", "!" * 22),
        ("otp", []),
        ("extra", 1),
        ("otp.secret", "c2hvcnQ"),
        ("otp.secret", ""),
        ("otp.secret", "Zm9v="),
        ("otp.type", "steam"),
        ("otp.alg", "MD5"),
        ("otp.digits", 5),
        ("otp.digits", 6.0),
        ("otp.period", 10),
        ("otp.counter", -1),
        ("otp.window", 2),
        ("otp.label", "a\nb"),
        ("otp.label", "\ud800"),
        ("otp.issuer", "x" * 257),
        ("otp.extra", 1),
    ],
)
def test_a_member_that_is_wrong(name: str, value: object) -> None:
    """Each has its type and its range, and the refusal holds nothing of it."""
    spoilt = content()
    holder, _, last = name.rpartition(".")
    (spoilt[holder] if holder else spoilt)[last] = value

    with pytest.raises(ClaimsRefused) as refused:
        seed_claims.parse(json.dumps(spoilt).encode())
    assert "canary" not in str(refused.value)
    assert encoded(b"canary-of-a-seed-20b") not in str(refused.value)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iss":"hq",' + seed_claims.to_json(ONE)[1:],
        seed_claims.to_json(ONE).replace(b'"digits":6', b'"digits":6,"digits":8'),
        seed_claims.to_json(ONE).replace(b'"seq":7', b'"seq":NaN'),
        seed_claims.to_json(ONE).decode().encode("utf-16"),
        b"[" * 30_000,
        seed_claims.to_json(ONE) + b"x",
    ],
)
def test_json_that_readers_disagree_about(payload: bytes) -> None:
    """A member twice, NaN, another encoding, depth, a tail: refused."""
    with pytest.raises(ClaimsRefused):
        seed_claims.parse(payload)


def test_nothing_shows_the_seed() -> None:
    """Neither `repr` nor `str` of claims has it."""
    assert "canary" not in repr(ONE)
    assert "canary" not in str(replace(ONE, label="x"))
