"""Callers: tokens, certificates' names, and what each may do."""

import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.access import (
    Caller,
    Scope,
    admit,
    certificate_digest,
    new_token,
    token_digest,
)
from otpseal.errors import Forbidden, OtpsealError, Unauthenticated

NOW = 1_800_000_000.0
CALLER = Caller("c1", "shop", b"d" * 32, frozenset({Scope.VERIFY}), "shop/", NOW - 1)


@given(st.binary(min_size=32, max_size=32))
def test_a_token_is_recognisable_and_carries_all_bits(random: bytes) -> None:
    """A prefix for secret scanners, then 256 bits; it rests as SHA-256."""
    token = new_token(random)

    assert re.fullmatch(rb"otpseal_[A-Za-z0-9_-]{43}", token.reveal())
    assert hashlib.sha256(token.reveal()).digest() == token_digest(token.reveal())


def test_tokens_differ_where_their_bits_do() -> None:
    """No bit of the randomness is lost in the text."""
    tokens = {new_token((1 << bit).to_bytes(32, "big")).reveal() for bit in range(256)}

    assert len(tokens) == 256


@given(st.binary(max_size=80))
def test_what_is_no_token_has_no_digest(presented: bytes) -> None:
    """Else a certificate's digest could be presented as a token's preimage."""
    assert token_digest(presented) is None


@pytest.mark.parametrize("change", [b"\n", b" ", b"A", b"="])
def test_a_token_is_exact(change: bytes) -> None:
    """Nothing is trimmed or padded (CVE-2025-6014 lived on a trailing blank)."""
    token = new_token(bytes(32)).reveal()

    assert token_digest(token + change) is None
    assert token_digest(change + token) is None


@pytest.mark.parametrize(
    "name", ["", "shop.example", "DNS:", "DNS:a b", "IP:10.0.0.1", "DNS:a\n", "DNS:ä"]
)
def test_what_is_no_certificates_name(name: str) -> None:
    """Only the kinds of name that people give to clients, without blanks."""
    assert certificate_digest(name) is None


def test_the_case_of_a_dns_name_means_nothing() -> None:
    """What an administrator types is what the certificate says; URIs are exact."""
    typed, said = "DNS:Shop.Example", "DNS:shop.example"

    assert certificate_digest(said) == certificate_digest(typed)
    assert certificate_digest("URI:x:A") != certificate_digest("URI:x:a")
    assert certificate_digest("email:A@x") != certificate_digest("email:a@x")


def test_a_name_and_its_kind_are_one() -> None:
    """The same text as another kind of name is another caller."""
    digests = {certificate_digest(f"{kind}:a@b.example") for kind in ("URI", "email")}

    assert len(digests) == 2
    assert None not in digests


@pytest.mark.parametrize(
    ("error", "caller"),
    [
        (Unauthenticated, None),
        (Unauthenticated, replace(CALLER, revoked_at=NOW - 9)),
        (Unauthenticated, replace(CALLER, revoked_at=NOW + 9)),
        (Unauthenticated, replace(CALLER, expires_at=NOW)),
        (Forbidden, replace(CALLER, scopes=frozenset({Scope.CODE, Scope.AUDIT}))),
    ],
)
def test_who_is_not_admitted(error: type[OtpsealError], caller: Caller | None) -> None:
    """The unknown, revoked and expired get one error and one text."""
    with pytest.raises(error) as caught:
        admit(caller, Scope.VERIFY, NOW)

    if error is Unauthenticated:
        assert str(caught.value) == "Unauthorized"


@pytest.mark.parametrize("scope", Scope)
def test_admin_may_do_everything(scope: Scope) -> None:
    """And nobody else more than his own scope."""
    admin = replace(CALLER, scopes=frozenset({Scope.ADMIN}))

    assert admit(admin, scope, NOW) is admin
    if scope is not Scope.VERIFY:
        with pytest.raises(Forbidden):
            admit(CALLER, scope, NOW)


@pytest.mark.parametrize(
    ("expected", "account"),
    [(True, "shop/a"), (False, "shop"), (False, "shop2/a"), (False, "a/shop/b")],
)
def test_the_fence(expected: bool, account: str) -> None:  # noqa: FBT001
    """A prefix ends in a slash, so that shop2 is not shop's."""
    assert expected is CALLER.has(account)
