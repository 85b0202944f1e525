"""otpseal.formats.csv_rows: documented columns, RFC 4180, nothing guessed."""

import csv
import io
from dataclasses import replace

import pytest
from formats_samples import (
    FOOBAR_SEED,
    RFC_SECRET,
    VECTORS,
    base32,
    entries,
    entry,
    only_fault,
    reasons,
    refusal,
)
from hypothesis import given
from hypothesis import strategies as st

from otpseal.formats import Format, csv_rows
from otpseal.formats.row import Entry


def test_the_sample() -> None:
    """Each row of the sample is what docs/moving.md says; lines are counted in full."""
    rows = csv_rows.parse((VECTORS / "accounts.csv").read_bytes())

    assert [
        entry(
            2, account="shop/alice", issuer="Shop", label="alice@example.com", window=1
        ),
        entry(3, account="shop/bob"),
        entry(
            4,
            FOOBAR_SEED,
            account="shop/carol",
            issuer="Shop, Inc",
            label='Carol "C"',
            type="hotp",
            algorithm="SHA512",
            digits=8,
            counter=7,
            window=0,
        ),
    ] == [row for row in rows if isinstance(row, Entry)]
    assert {
        6: "the id breaks the rule for account ids",
        7: "issuer or label holds a control character",
        9: "digits are 6 to 8",
        10: "a counter belongs to type hotp",
        11: "the row has more or fewer fields than the header",
        12: "id or secret is empty",
    } == reasons(rows)


@given(
    row=entries(),
    window=st.sampled_from([None, 0, 1]),
    columns=st.permutations(csv_rows.COLUMNS),
    end=st.sampled_from(["\r\n", "\n"]),
)
def test_what_a_spreadsheet_writes_is_read(
    row: Entry, window: int | None, columns: list[str], end: str
) -> None:
    """Every valid entry comes back, whatever the order of columns and line ends."""
    expected = replace(row, line=2, account="shop/alice", window=window)
    fields = {
        "id": "shop/alice",
        "secret": base32(row.seed),
        "window": "" if window is None else window,
        "counter": row.counter if row.type == "hotp" else "",
        **{
            name: getattr(row, name)
            for name in ("type", "issuer", "label", "algorithm", "digits", "period")
        },
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator=end)
    writer.writeheader()
    writer.writerow(fields)

    assert [expected] == csv_rows.parse(text.getvalue().encode())


@pytest.mark.parametrize(
    "header",
    [
        "",
        "id",
        "secret",
        "id,secret,perod",
        "id,secret,id",
        "id,secret,",
        "ID,Secret",
        "id, secret",
        "id;secret",
        "id\tsecret",
    ],
)
def test_a_header_that_is_not_one(header: str) -> None:
    """Unknown, repeated and missing columns and other separators: all refused."""
    assert refusal(f"{header}\na,{RFC_SECRET}\n", Format.CSV).startswith(
        "the first line has to name the columns"
    )


@pytest.mark.parametrize(
    "content",
    [
        f'id,secret\n"a,{RFC_SECRET}\nb,{RFC_SECRET}\n',
        f'id,secret\n"a"b,{RFC_SECRET}\n',
        f"id,secret\na,{'A' * 200_000}\n",
    ],
)
def test_broken_csv_is_refused_as_a_whole(content: str) -> None:
    """Where quotes are broken no later row can be trusted, so none is read."""
    assert refusal(content, Format.CSV).startswith("the file is not CSV")


@pytest.mark.parametrize(
    ("columns", "fields", "reason"),
    [
        ("window", "2", "the window is neither 0 nor 1"),
        ("window", "-1", "digits, period, counter or window is not a number"),
        ("digits", " 6", "digits, period, counter or window is not a number"),
        ("digits", "6.0", "digits, period, counter or window is not a number"),
        ("digits", "\uff19", "digits, period, counter or window is not a number"),
        ("period", "3\u0660", "digits, period, counter or window is not a number"),
        ("period", "9" * 5000, "digits, period, counter or window is not a number"),
        ("type", "hotp", "type hotp needs its counter"),
        ("type", "steam", "Steam's codes are not those of RFC 6238"),
        ("type", "toťp", "the type is neither totp nor hotp"),
        ("algorithm", "SHA384", "the algorithm is none of SHA1, SHA256 and SHA512"),
        ("label", "a:b", "the label holds a colon, and there is no issuer"),
        ("counter", "1", "a counter belongs to type hotp"),
    ],
)
def test_refused_rows(columns: str, fields: str, reason: str) -> None:
    """Rules of a row, reached through a column."""
    content = f"id,secret,{columns}\nalice,{RFC_SECRET},{fields}\n"

    assert reason == only_fault(content, Format.CSV)


def test_a_header_alone_is_an_empty_file() -> None:
    """No rows are no fault."""
    assert [] == csv_rows.parse(b"\xef\xbb\xbfid,secret\r\n\r\n")
