"""otpseal.formats: any bytes, the shared rules, telling formats apart, no leaks."""

import base64
import json
import re
from functools import partial
from pathlib import Path

import pytest
from formats_samples import (
    CANARY,
    RFC_SECRET,
    RFC_SEED,
    VECTORS,
    base32,
    refusal,
    seeds,
)
from hypothesis import given
from hypothesis import strategies as st

from otpseal import account_id, formats
from otpseal.errors import FileRefused
from otpseal.formats import Format, content, csv_rows, row
from otpseal.secret import Secret

_SAMPLES = [path.read_bytes() for path in sorted(VECTORS.iterdir())]
_JSON_FORMATS = [Format.AEGIS, Format.TWOFAS]

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_INFO_KEYS = ["secret", "algo", "algorithm", "digits", "period", "counter", "tokenType"]
_NAME_KEYS = ["type", "name", "issuer", "label", "account", "info", "otp"]
_keys = st.sampled_from([*_INFO_KEYS, *_NAME_KEYS])
_rows = st.dictionaries(
    _keys, _json_values | st.dictionaries(_keys, _json_values, max_size=6), max_size=6
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Draw a sample of ours in which a stretch is replaced by other bytes."""
    sample = draw(st.sampled_from(_SAMPLES))
    start = draw(st.integers(0, len(sample)))
    end = draw(st.integers(start, min(len(sample), start + 20)))
    return sample[:start] + draw(st.binary(max_size=10)) + sample[end:]


class TestTotality:
    """Every parser is a total function: rows, or `FileRefused`."""

    @given(raw=st.one_of(st.binary(), st.text().map(str.encode), _damaged()))
    def test_any_bytes(self, raw: bytes) -> None:
        """Nothing but `FileRefused` is ever raised, and nothing hangs on it."""
        parsers = [partial(formats.parse, form=form) for form in Format]
        for read in (formats.detect, *parsers):
            context: BaseException | None = None
            try:
                read(raw)
            except FileRefused as refused:
                context = refused.__context__
            assert context is None

    @given(rows=st.lists(_rows | _json_values, max_size=4))
    def test_any_json_in_the_right_place(self, rows: list[object]) -> None:
        """Whatever an entry holds: an entry or a fault for each, in order."""
        vault = {
            "version": 1,
            "header": {"slots": None},
            "db": {"version": 3, "entries": rows},
        }
        backup = {"services": rows, "schemaVersion": 4}
        for document, form in zip((vault, backup), _JSON_FORMATS, strict=True):
            raw = json.dumps(document).encode()
            # Python writes these, and they are refused: another test.
            if b"NaN" in raw or b"Infinity" in raw:
                continue

            found = formats.parse(raw, form)

            assert list(range(1, len(rows) + 1)) == [entry.line for entry in found]

    @pytest.mark.parametrize("form", list(Format))
    def test_what_no_format_takes(self, form: Format) -> None:
        """Size, encoding and UTF-16 are refused before anything is looked at."""
        huge = b" " * (content.MAX_BYTES + 1)

        assert "the file is larger than 64 MiB: split it" == refusal(huge, form)
        assert refusal(b"\xff", form).startswith("the file is not UTF-8")
        assert refusal("id,secret\n".encode("utf-16"), form).startswith("the file is")

    @pytest.mark.parametrize("form", _JSON_FORMATS)
    @pytest.mark.parametrize(
        "raw",
        [
            "[" * 200_000,
            '{"a":' * 200_000,
            '{"a":1,"a":2}',
            '{"services":[{"otp":{},"otp":{}}],"schemaVersion":4}',
            '{"a":NaN}',
            '{"a":-Infinity}',
            '{"a":' + "9" * 5000 + "}",
            '{"a":1}{"a":1}',
            "{'a':1}",
            '{"a":1,}',
            '{"a":"\n"}',
            "[]",
            "null",
            "",
        ],
    )
    def test_json_that_is_refused(self, form: Format, raw: str) -> None:
        """Depth, repeated keys, NaN, endless numbers and loose syntax."""
        assert refusal(raw, form).startswith("the file is not a JSON object")


class TestDetect:
    """`detect` chooses by content alone."""

    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("path", sorted(VECTORS.iterdir()), ids=lambda p: p.name)
    def test_samples(self, path: Path, bom: bytes) -> None:
        """Every sample is told, with a BOM and with CRLF too, encrypted ones too."""
        name = path.name.partition(".")[0].partition("_")[0]
        expected = {
            "otpauth": Format.OTPAUTH,
            "accounts": Format.CSV,
            "aegis": Format.AEGIS,
            "twofas": Format.TWOFAS,
        }[name]
        raw = path.read_bytes()

        assert expected == formats.detect(bom + raw)
        assert expected == formats.detect(bom + raw.replace(b"\n", b"\r\n"))

    @pytest.mark.parametrize(
        "raw", [b"", b"\n", b"hello", b'"', b"{}", b"[]", b"{", b"id;secret\n", b"\xff"]
    )
    def test_others_are_refused(self, raw: bytes) -> None:
        """What looks like nothing that is read is said to be that."""
        with pytest.raises(FileRefused, match=r"^the file is ") as raised:
            formats.detect(raw)

        assert raised.value.__context__ is None

    @pytest.mark.parametrize("path", sorted(VECTORS.iterdir()), ids=lambda p: p.name)
    def test_blank_lines_before(self, path: Path) -> None:
        """Blank lines in front of a file change nothing."""
        raw = path.read_bytes()

        assert formats.detect(raw) == formats.detect(b"\r\n\n" + raw)

    def test_a_transfer_code_is_told(self) -> None:
        """It goes to the parser that says what to do about it."""
        assert Format.OTPAUTH == formats.detect(b"otpauth-migration://offline?data=A")


class TestSeeds:
    """Base32 of RFC 4648: one seed, one reading."""

    @given(seed=seeds)
    def test_tolerated_spellings(self, seed: Secret) -> None:
        """Case, blanks and missing padding make no difference."""
        text = base64.b32encode(seed.reveal()).decode()
        spaced = " ".join(text[i : i + 4] for i in range(0, len(text), 4))

        assert seed == row.parse_seed(text)
        assert seed == row.parse_seed(text.rstrip("=").lower())
        assert seed == row.parse_seed(f" {spaced} ")

    @given(text=st.text("ABCDabcd234567= ", max_size=110))
    def test_what_is_read_is_the_only_reading(self, text: str) -> None:
        """Blanks, case and padding aside, what is read is what would be written."""
        try:
            seed = row.parse_seed(text)
        except row.RowError:
            return
        assert text.replace(" ", "").rstrip("=").upper() == base32(seed)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "========",
            RFC_SECRET + "=",
            RFC_SECRET + "========",
            RFC_SECRET + "A",
            RFC_SECRET + "AAA",
            RFC_SECRET + "AAAAAA",
            RFC_SECRET + "AA=====",
            RFC_SECRET + "AB",
            RFC_SECRET + "MZXW7===",
            "=" + RFC_SECRET,
            "A======A" + RFC_SECRET,
            RFC_SECRET.replace("E", "1"),
            RFC_SECRET.replace("G", "0"),
            RFC_SECRET.replace("E", "8"),
            RFC_SECRET.replace("E", "-"),
            RFC_SECRET + "\n",
            RFC_SECRET.replace("Q", "\uff31"),
            RFC_SECRET.replace("G", "\u0131"),
            base32(Secret(bytes(15))),
            base32(Secret(bytes(65))),
        ],
    )
    def test_refused_spellings(self, text: str) -> None:
        """Padding, lengths, trailing bits, digits that are none, sizes."""
        with pytest.raises(row.RowError):
            row.parse_seed(text)

    @pytest.mark.parametrize("size", [16, 64])
    def test_sizes_at_the_edge(self, size: int) -> None:
        """16 to 64 bytes (RFC 4226 section 4 R6)."""
        assert size == len(row.parse_seed(base32(Secret(bytes(size)))))


class TestAlgorithms:
    """Spellings of the three algorithms."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (None, "SHA1"),
            ("SHA1", "SHA1"),
            ("sha-1", "SHA1"),
            ("HmacSHA1", "SHA1"),
            ("hmacsha256", "SHA256"),
            ("SHA-256", "SHA256"),
            ("HmacSHA-512", "SHA512"),
            ("Sha512", "SHA512"),
        ],
    )
    def test_known(self, text: str | None, expected: str) -> None:
        """SHA1, SHA-1 and HmacSHA1, in any case."""
        assert expected == row.parse_algorithm(text)

    @pytest.mark.parametrize(
        "text", ["", "MD5", "SHA", "SHA224", "SHA384", "SHA--1", " SHA1", "\u017fha1"]
    )
    def test_unknown(self, text: str) -> None:
        """Anything else, the long s whose upper case is an S included."""
        with pytest.raises(row.RowError):
            row.parse_algorithm(text)


class TestNoLeaks:
    """No seed comes out of a repr, a fault or an error."""

    def test_an_entry_does_not_print_its_seed(self) -> None:
        """Neither as bytes nor as hex, base32 or base64."""
        printed = repr(row.make_entry(1, secret=RFC_SECRET))

        raw = RFC_SEED.reveal()
        for form in (
            repr(raw)[2:-1],
            raw.hex(),
            RFC_SECRET,
            base64.b64encode(raw).decode(),
        ):
            assert form not in printed
        assert "seed" not in printed

    @pytest.mark.parametrize("form", list(Format))
    @given(cut=st.integers(0, 10**6), junk=st.binary(max_size=8))
    def test_a_canary_stays_inside(self, form: Format, cut: int, junk: bytes) -> None:
        """Damage a file anywhere: neither faults nor errors repeat any of its seed."""
        path = {
            Format.OTPAUTH: "otpauth.txt",
            Format.CSV: "accounts.csv",
            Format.AEGIS: "aegis_plain.json",
            Format.TWOFAS: "twofas_schema4.json",
        }[form]
        sample = (VECTORS / path).read_text()
        planted = sample.replace(RFC_SECRET, CANARY).encode()
        cut %= len(planted)
        raw = planted[:cut] + junk + planted[cut:]

        try:
            printed = repr(formats.parse(raw, form))
        except FileRefused as refused:
            printed = f"{refused!r} {refused.args} {refused.__context__!r}"

        assert "CANARY7" not in printed.upper()


class TestWords:
    """docs/moving.md and the program cannot drift apart."""

    _TEXT = (Path(__file__).parents[1] / "docs" / "moving.md").read_text("utf-8")

    def test_columns(self) -> None:
        """The table has every column in the order of the source, and no other."""
        table = self._TEXT.partition("| column | |")[2].partition("```")[0]

        assert list(csv_rows.COLUMNS) == re.findall(r"^\| `(\w+)`", table, re.MULTILINE)

    def test_examples(self) -> None:
        """The examples of files are read without a fault."""
        blocks = re.findall(r"^```\n(.*?)^```", self._TEXT, re.MULTILINE | re.DOTALL)
        found = [formats.detect(block.encode()) for block in blocks]
        rows = [
            read
            for block, form in zip(blocks, found, strict=True)
            for read in formats.parse(block.encode(), form)
        ]

        assert [Format.OTPAUTH, Format.CSV] == found
        assert [row.Entry] * 4 == [type(read) for read in rows]

    def test_proposals(self) -> None:
        """The table of proposed ids is what is proposed."""
        table = self._TEXT.partition("| issuer | label | proposed |")[2]
        rows = re.findall(r"^\| (.*?) ?\| (.*?) ?\| (.*) \|$", table, re.MULTILINE)
        proposed = [account_id.propose(*names) for *names, _ in rows]

        assert 5 == len(rows)
        assert [text for *_, text in rows] == [
            f"`{text}`" if text else "none" for text in proposed
        ]
