"""JSON that every reader understands alike, and errors that hold nothing of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal import strict_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
).filter(lambda value: "Infinity" not in json.dumps(value))


@given(JSON)
def test_what_json_writes_is_read(value: object) -> None:
    """As text and as UTF-8."""
    text = json.dumps(value)

    assert value == strict_json.parse(text)
    assert value == strict_json.parse(text.encode("utf-8"))


@pytest.mark.parametrize(
    "raw",
    [
        '{"a":1,"a":1}',
        '[{"a":1,"b":2,"a":3}]',
        "NaN",
        "[Infinity]",
        "-Infinity",
        "[" * 100_000,
        "1" * 5000,
        "{} {}",
        "",
        '"\t"',
        b"\xff{}",
        "{}".encode("utf-16"),
    ],
)
def test_what_readers_disagree_about(raw: str | bytes) -> None:
    """Refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - there is but one
        strict_json.parse(raw)


@pytest.mark.parametrize("raw", ["[]", "1", "null", '"a"'])
def test_what_is_no_object(raw: str) -> None:
    """Is refused where members are wanted."""
    with pytest.raises(ValueError, match="no object"):
        strict_json.parse_object(raw)


@pytest.mark.parametrize("raw", ['{"secret": "canary"', b'{"secret": "canary\xff"}'])
def test_errors_hold_nothing_of_the_text(raw: str | bytes) -> None:
    """Not even where nobody looks: json's own error has the whole document."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        strict_json.parse(raw)

    error: BaseException | None = refused.value
    while error is not None:
        assert "canary" not in f"{error} {vars(error)} {error.args}"
        error = error.__context__
