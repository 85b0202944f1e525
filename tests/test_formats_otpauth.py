"""otpseal.formats.otpauth: URIs read strictly, and written so that all read them."""

import hashlib
from urllib.parse import quote

import pyotp
import pytest
from formats_samples import (
    FOOBAR_SEED,
    RFC_SECRET,
    RFC_SEED,
    VECTORS,
    base32,
    entries,
    entry,
    only_fault,
    reasons,
    refusal,
)
from hypothesis import given

from otpseal.formats import Format, otpauth
from otpseal.formats.row import Entry
from otpseal.secret import Secret


def _uri_of(row: Entry) -> str:
    return otpauth.key_uri(
        row.seed,
        issuer=row.issuer,
        label=row.label,
        kind=row.type,
        algorithm=row.algorithm,
        digits=row.digits,
        period=row.period,
        counter=row.counter,
    )


def _parsed(uri: str) -> Entry:
    (row,) = otpauth.parse(uri.encode())
    assert isinstance(row, Entry), row
    return row


def _fault(uri: str) -> str:
    return only_fault(uri, Format.OTPAUTH)


def test_the_sample() -> None:
    """Each line of the sample is the account that Google's description makes of it."""
    rows = otpauth.parse((VECTORS / "otpauth.txt").read_bytes())

    assert [
        entry(3, issuer="Example", label="alice@example.com"),
        entry(
            4, issuer="Big Corp", label="bob", algorithm="SHA256", digits=8, period=60
        ),
        entry(
            5,
            FOOBAR_SEED,
            label="carol",
            type="hotp",
            algorithm="SHA512",
            digits=7,
            counter=42,
        ),
        entry(6, FOOBAR_SEED, issuer="New Name", label="dave+work"),
        entry(7, FOOBAR_SEED, issuer="Zürich", label="eva"),
    ] == [row for row in rows if isinstance(row, Entry)]
    assert [9, 10, 11, 12, 13] == list(reasons(rows))


@given(row=entries())
def test_what_is_written_is_read(row: Entry) -> None:
    """Every valid entry comes back from its URI, which is printable ASCII."""
    uri = _uri_of(row)

    assert row == _parsed(uri)
    assert uri.isascii()
    assert uri.isprintable()
    assert " " not in uri
    assert "+" not in uri


# pyotp refuses longer periods, and calls an account without a label "Secret".
_pyotp_entries = entries().filter(lambda row: row.period <= 120 and row.label)


@given(row=_pyotp_entries)
def test_pyotp_reads_the_same_account(row: Entry) -> None:
    """Where pyotp accepts the account, it reads ours from our URI."""
    read = pyotp.parse_uri(_uri_of(row))

    assert base32(row.seed) == read.secret
    assert (row.issuer or None, row.label) == (read.issuer, read.name)
    assert (row.digits, hashlib.new(row.algorithm).name) == (
        read.digits,
        read.digest().name,
    )
    if isinstance(read, pyotp.TOTP):
        assert ("totp", row.period) == (row.type, read.interval)
    else:
        assert isinstance(read, pyotp.HOTP)
        assert ("hotp", row.counter) == (row.type, read.initial_count)


@given(row=_pyotp_entries.filter(lambda row: row.type == "totp"))
def test_what_pyotp_writes_is_read(row: Entry) -> None:
    """URIs by pyotp, defaults left out and slashes bare, are read."""
    theirs = pyotp.TOTP(
        base32(row.seed),
        digits=row.digits,
        digest=getattr(hashlib, row.algorithm.lower()),
        interval=row.period,
        name=row.label,
        issuer=row.issuer,
    )

    assert row == _parsed(theirs.provisioning_uri())


def test_a_written_uri() -> None:
    """The text itself: unreserved characters bare, all else percent-encoded UTF-8."""
    assert (
        "otpauth://totp/Big%2FCorp:al%2Fi%3Ace%2B%C3%A9?secret=" + RFC_SECRET + "&"
        "issuer=Big%2FCorp&algorithm=SHA1&digits=6&period=30"
    ) == otpauth.key_uri(RFC_SEED, issuer="Big/Corp", label="al/i:ce+é")
    assert (
        "otpauth://hotp/alice?secret=" + RFC_SECRET + "&algorithm=SHA512&digits=8"
        "&counter=0"
    ) == otpauth.key_uri(
        RFC_SEED, issuer="", label="alice", kind="hotp", algorithm="SHA512", digits=8
    )


@pytest.mark.parametrize(
    "given_",
    [
        {"seed": Secret(bytes(15))},
        {"seed": Secret(bytes(65))},
        {"issuer": "a:b"},
        {"issuer": "", "label": "a:b"},
        {"label": "a\nb"},
        {"label": "\ud800"},
        {"digits": 9},
        {"period": 14},
        {"period": 301},
        {"kind": "hotp", "counter": -1},
        {"kind": "hotp", "counter": 2**63},
    ],
)
def test_what_could_not_be_read_is_not_written(given_: dict[str, object]) -> None:
    """A value outside its range is the caller's mistake, and is not echoed."""
    arguments = {"seed": RFC_SEED, "issuer": "Example", "label": "canary", **given_}

    with pytest.raises(ValueError, match=r"^[a-z0-9* ,-]+$") as raised:
        otpauth.key_uri(**arguments)

    assert "canary" not in str(raised.value)


_BASE = f"otpauth://totp/Example:alice?secret={RFC_SECRET}"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (f"{_BASE}&secret={RFC_SECRET}", "a parameter is given twice"),
        (f"{_BASE}&Secret={RFC_SECRET}", "a parameter is given twice"),
        (f"{_BASE}&x=1&x=1", "a parameter is given twice"),
        ("otpauth://totp/alice?issuer=Example", "the URI holds no secret"),
        (f"{_BASE}&encoder=steam", "the URI asks for codes in another form"),
        (f"{_BASE}&issuer=%", "a percent sign is not followed by two hex digits"),
        (f"{_BASE}&issuer=%4", "a percent sign is not followed by two hex digits"),
        (f"{_BASE}&issuer=%zz", "a percent sign is not followed by two hex digits"),
        (f"{_BASE}&issuer=%%41", "a percent sign is not followed by two hex digits"),
        (f"{_BASE}&issuer=%FF", "what is percent-encoded is not UTF-8"),
        (f"{_BASE}&issuer=%C0%AF", "what is percent-encoded is not UTF-8"),
        (f"{_BASE}&issuer=%ED%A0%80", "what is percent-encoded is not UTF-8"),
        (f"{_BASE}&issuer=é", "blanks and characters beyond ASCII are to be"),
        (f"{_BASE}&issuer=a b", "blanks and characters beyond ASCII are to be"),
        (f"{_BASE}#x", "this is no otpauth URI"),
        (f"otpauth://totp?secret={RFC_SECRET}", "this is no otpauth URI"),
        ("otpauth://totp/alice", "this is no otpauth URI"),
        (f"otpauth://steam/a?secret={RFC_SECRET}", "Steam's codes are not those"),
        (f"otpauth://motp/a?secret={RFC_SECRET}", "mOTP's codes are not those"),
        (f"otpauth://x/a?secret={RFC_SECRET}", "the type is neither totp nor hotp"),
        (f"{_BASE}&digits=06", "digits, period, counter or window is not a number"),
        (f"{_BASE}&digits=", "digits, period, counter or window is not a number"),
        (f"{_BASE}&digits=%EF%BC%96", "digits, period, counter or window is not"),
        (f"{_BASE}&digits=9", "digits are 6 to 8"),
        (f"{_BASE}&period=14", "the period is 15 to 300 seconds"),
        (f"{_BASE}&period=301", "the period is 15 to 300 seconds"),
        (f"{_BASE}&algorithm=MD5", "the algorithm is none of SHA1, SHA256"),
        (f"{_BASE}&counter=5", "a counter belongs to type hotp"),
        (f"otpauth://hotp/a?secret={RFC_SECRET}", "type hotp needs its counter"),
        (
            f"otpauth://hotp/a?secret={RFC_SECRET}&counter={2**63}",
            "the counter is 0 to 2**63 - 1",
        ),
        (f"{_BASE}&issuer=a%3Ab", "the issuer holds a colon"),
        (f"{_BASE}&issuer=a%0Ab", "issuer or label holds a control character"),
        (f"{_BASE}&issuer=a%E2%80%AEb", "issuer or label holds a control character"),
        (f"{_BASE}&issuer=a%E2%80%A8b", "issuer or label holds a control character"),
        (f"{_BASE}&issuer=%20a", "issuer or label begins or ends with a blank"),
        (f"{_BASE}&issuer={'a' * 129}", "issuer or label has more than 128"),
        ("otpauth-migration://offline?data=AA", "this is a transfer code of Google"),
    ],
)
def test_refused_rows(uri: str, reason: str) -> None:
    """Every rule of a row says which one was broken, and nothing of the row."""
    found = _fault(uri)

    assert reason == found[: len(reason)]


@pytest.mark.parametrize(
    ("uri", "issuer", "label"),
    [
        (f"otpauth://totp/alice?secret={RFC_SECRET}", "", "alice"),
        (f"otpauth://totp/Ex:alice?secret={RFC_SECRET}", "Ex", "alice"),
        (f"otpauth://totp/Ex%3Aalice?secret={RFC_SECRET}", "Ex", "alice"),
        (f"otpauth://totp/Ex:%20%20alice?secret={RFC_SECRET}", "Ex", "alice"),
        (f"otpauth://totp/Ex:a%3Ab?secret={RFC_SECRET}", "Ex", "a:b"),
        (f"otpauth://totp/alice?secret={RFC_SECRET}&issuer=Ex", "Ex", "alice"),
        (f"otpauth://totp/Old:alice?secret={RFC_SECRET}&issuer=New", "New", "alice"),
        (f"otpauth://totp/Ex:alice?secret={RFC_SECRET}&issuer=", "Ex", "alice"),
        (f"otpauth://totp/a+b?secret={RFC_SECRET}&issuer=A+B", "A B", "a+b"),
        (f"otpauth://totp/a?secret={RFC_SECRET}&issuer=A%2BB", "A+B", "a"),
        (f"OTPAUTH://TOTP/Ex:a/b?SECRET={RFC_SECRET}", "Ex", "a/b"),
        (f"otpauth://totp/?secret={RFC_SECRET}", "", ""),
    ],
)
def test_names(uri: str, issuer: str, label: str) -> None:
    """Prefix, parameter and both: the parameter wins, and the prefix is dropped."""
    row = _parsed(uri)

    assert (issuer, label) == (row.issuer, row.label)


def test_lines_are_those_of_an_editor() -> None:
    """BOM, CRLF, comments, blank lines are tolerated; other separators cut nothing."""
    uri = f"otpauth://totp/a?secret={RFC_SECRET}"
    content = f"\ufeff# a\x0c\u2028b\r\n\r\n{uri}\r\n{uri}".encode()

    assert [3, 4] == [row.line for row in otpauth.parse(content)]


@pytest.mark.parametrize("content", ["", "\n", "# otpauth://totp/", "hello\nworld"])
def test_a_file_without_a_uri_is_refused(content: str) -> None:
    """Something else is refused once, not once a line."""
    assert "no line of the file is an otpauth URI" == refusal(content, Format.OTPAUTH)


def test_a_quoted_secret() -> None:
    """Percent-encoded blanks and padding in the secret are read."""
    spaced = quote("GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ")

    assert RFC_SEED == _parsed(f"otpauth://totp/a?secret={spaced}").seed
