"""What the tests of `otpseal.formats` share: samples, entries, ways to look."""

import base64
from pathlib import Path

import pytest
from hypothesis import strategies as st

from otpseal import formats
from otpseal.errors import FileRefused
from otpseal.formats.row import Entry, Fault, names_fault
from otpseal.secret import Secret

VECTORS = Path(__file__).parent / "vectors" / "formats"

#: RFC 4226 appendix D's seed, the one of most samples.
RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
RFC_SEED = Secret(b"12345678901234567890")
FOOBAR_SECRET = "MZXW6YTBOIAAAAAAAAAAAAAAAA"
FOOBAR_SEED = Secret(b"foobar" + bytes(10))

CANARY = "CANARY7CANARY7CANARY7CANARY7CANA"

seeds = st.binary(min_size=16, max_size=64).map(Secret)
_names = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")),
        st.sampled_from(':%+&=/?# "<>\\|,;é日'),
    ),
    max_size=128,
).map(str.strip)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Draw any entry that a file may describe, without account and window."""
    kind = draw(st.sampled_from(["totp", "hotp"]))
    issuer, label = draw(
        st.tuples(_names, _names).filter(lambda both: names_fault(*both) is None)
    )
    return Entry(
        line=1,
        account=None,
        issuer=issuer,
        label=label,
        type=kind,
        algorithm=draw(st.sampled_from(["SHA1", "SHA256", "SHA512"])),
        digits=draw(st.integers(6, 8)),
        period=draw(st.integers(15, 300)) if kind == "totp" else 30,
        counter=draw(st.integers(0, 2**63 - 1)) if kind == "hotp" else 0,
        window=None,
        seed=draw(seeds),
    )


def base32(seed: Secret) -> str:
    """Return a seed as files write it."""
    return base64.b32encode(seed.reveal()).decode("ascii").rstrip("=")


def entry(line: int, seed: Secret = RFC_SEED, **given: object) -> Entry:
    """Return an entry with the defaults of every format."""
    defaults = {
        "account": None,
        "issuer": "",
        "label": "",
        "type": "totp",
        "algorithm": "SHA1",
        "digits": 6,
        "period": 30,
        "counter": 0,
        "window": None,
    }
    return Entry(line=line, seed=seed, **{**defaults, **given})


def reasons(rows: list[Entry | Fault]) -> dict[int, str]:
    """Return the reason of each fault by its line."""
    return {row.line: row.reason for row in rows if isinstance(row, Fault)}


def only_fault(content: str | bytes, form: formats.Format) -> str:
    """Return the reason of the one row of `content`, which must be a fault."""
    raw = content.encode() if isinstance(content, str) else content
    (row,) = formats.parse(raw, form)
    assert isinstance(row, Fault), row
    return row.reason


def refusal(content: str | bytes, form: formats.Format) -> str:
    """Return why `content` is refused as a whole; nothing of it hangs on the error."""
    raw = content.encode() if isinstance(content, str) else content
    with pytest.raises(FileRefused) as raised:
        formats.parse(raw, form)
    assert "file_refused" == raised.value.code
    # A JSONDecodeError or UnicodeDecodeError as context would hold the whole file.
    assert raised.value.__context__ is None
    return str(raised.value)
