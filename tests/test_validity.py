"""How long a certificate counts, and what is said in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.errors import CertificateExpired
from otpseal.validity import ALWAYS, RENEW_DAYS, Validity, renewal_due

NOW = 1_800_000_000.0
DAY = 86_400
LONG = Validity(NOW - DAY, NOW + 3650 * DAY)
TIMES = st.floats(0, 4e9)


@given(since=TIMES, until=TIMES, now=TIMES)
def test_both_ends_count(since: float, until: float, now: float) -> None:
    """From the first second to the last, and nothing is signed outside."""
    validity = Validity(since, until)
    if validity.includes(now):
        assert since <= now <= until
        validity.expect(now)
    else:
        assert now < since or now > until
        with pytest.raises(CertificateExpired, match="authority renew"):
            validity.expect(now)


def test_what_has_no_certificate_has_no_end() -> None:
    """At any time."""
    for now in (0.0, NOW, 1e18):
        ALWAYS.expect(now)


def test_nothing_is_said_before_time() -> None:
    """Thirty whole days are left, and then they are not."""
    until = NOW + RENEW_DAYS * DAY

    assert renewal_due(Validity(0, until), LONG, NOW) is None
    said = renewal_due(Validity(0, until), LONG, NOW + 1)
    assert said is not None
    assert "ends in 29 days" in said
    assert "authority renew" in said


@pytest.mark.parametrize(
    ("signing", "ca", "words"),
    [
        (Validity(0, NOW - 1), LONG, ("has expired", "authority renew")),
        (Validity(NOW + 1, NOW + DAY), LONG, ("not valid before", "renew")),
        (
            Validity(0, NOW + DAY),
            Validity(0, NOW + DAY),
            ("its CA with it", "authority init", "trust add --replace"),
        ),
        (
            Validity(0, NOW - DAY),
            Validity(0, NOW - DAY),
            ("its CA has expired", "authority init"),
        ),
    ],
    ids=["expired", "not yet", "CA ends", "CA expired"],
)
def test_what_is_to_be_done_is_said(
    signing: Validity, ca: Validity, words: tuple[str, ...]
) -> None:
    """A renewal, or another CA where none helps."""
    said = renewal_due(signing, ca, NOW)

    assert said is not None
    assert all(word in said for word in words)
