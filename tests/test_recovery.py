"""Recovery codes: their form, and what of it people may get wrong."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.recovery import canonical, make_codes, parse


def test_ten_codes_of_80_bits() -> None:
    """Each code holds all of its ten random bytes, in 16 characters of base32."""
    taken: list[int] = []

    def random(count: int) -> bytes:
        taken.append(count)
        return os.urandom(count)

    codes = make_codes(random)

    assert [10] * 10 == taken
    assert len(set(codes)) == 10
    assert all(len(code) == 19 and code.count("-") == 3 for code in codes)


@given(st.binary(min_size=10, max_size=10), st.booleans(), st.booleans())
def test_what_was_shown_is_read(raw: bytes, capitals: bool, hyphens: bool) -> None:  # noqa: FBT001
    """In capitals or without hyphens, too."""
    shown = make_codes(lambda _: raw)[0]
    typed = shown.upper() if capitals else shown
    typed = typed if hyphens else typed.replace("-", "")

    assert canonical(shown) == (parse(typed) or "").encode()


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "abcd-efgh-ijkl-mno",
        "abcd-efgh-ijkl-mnop ",
        "abcd-efgh-ijkl-mnop\n",
        "abcd--efgh-ijkl-mnop",
        "abc-defgh-ijkl-mnop",
        "abcd-efgh-ijkl-mno1",
        "abcd-efgh-ijkl-mno\u017f",  # a long s, which folds to s
        "abcd-efgh-ijkl-mno\u212a",  # a Kelvin sign, which folds to k
        "\uff41bcd-efgh-ijkl-mnop",
    ],
)
def test_nothing_else_is_read(typed: str) -> None:
    """Other characters, lengths and groupings are no recovery code."""
    assert parse(typed) is None
