"""otpseal.pkcs11_uri: RFC 7512, strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.errors import ConfigurationError
from otpseal.pkcs11_uri import MAX_CHARS, Pkcs11Uri, parse, text_of

_LABELS = st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8
).filter(str.isprintable)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkcs11:token=t;object=o", Pkcs11Uri("t", object="o")),
        ("pkcs11:object=o;token=t", Pkcs11Uri("t", object="o")),
        ("pkcs11:token=t;object=o;type=private", Pkcs11Uri("t", object="o")),
        ("pkcs11:token=t;id=%01%ff%00", Pkcs11Uri("t", id=b"\x01\xff\x00")),
        ("pkcs11:token=t;id=a%3B", Pkcs11Uri("t", id=b"a;")),
        (
            "pkcs11:token=The%20Software%20PKCS%2311%20softtoken;object=my-key",
            Pkcs11Uri("The Software PKCS#11 softtoken", object="my-key"),
        ),
        (
            (
                "pkcs11:token=t;object=o;id=%01;serial=0000;manufacturer=Snake%20Oil,%20Inc."
                ";model=1.0"
            ),
            Pkcs11Uri("t", "o", b"\x01", "0000", "Snake Oil, Inc.", "1.0"),
        ),
        # Section 2.3: allowed bare in a path; "=" ends a name once.
        (
            "pkcs11:token=:[]@!$'()*+,=&-._~;object=a=b",
            Pkcs11Uri(":[]@!$'()*+,=&-._~", object="a=b"),
        ),
        ("pkcs11:token=%c3%A9;object=%E2%82%AC", Pkcs11Uri("é", object="€")),
        ("pkcs11:token=t;object=100%25", Pkcs11Uri("t", object="100%")),
    ],
)
def test_reads(text: str, expected: Pkcs11Uri) -> None:
    """Attributes in any order, percent-decoded once."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "begins with"),
        ("PKCS11:token=t;object=o", "begins with"),
        (" pkcs11:token=t;object=o", "begins with"),
        ("file:/key.pem", "begins with"),
        ("pkcs11:", "semicolons"),
        ("pkcs11:token=t", "names the key"),
        ("pkcs11:object=o", "names the token"),
        ("pkcs11:token=t;object=o;", "semicolons"),
        ("pkcs11:token=t;;object=o", "semicolons"),
        ("pkcs11:token=t;token=t;object=o", "token stands in it twice"),
        ("pkcs11:token=;object=o", "token is empty"),
        ("pkcs11:token;object=o", "token is empty"),
        ("pkcs11:token=a b;object=o", "written %XX"),
        ("pkcs11:token=a/b;object=o", "written %XX"),
        ("pkcs11:token=é;object=o", "written %XX"),
        ("pkcs11:token=a%2;object=o", "written %XX"),
        ("pkcs11:token=a%GG;object=o", "written %XX"),
        ("pkcs11:token=a%;object=o", "written %XX"),
        ("pkcs11:token=t;object=o\n", "written %XX"),
        ("pkcs11:token=t;object=o#part", "written %XX"),
        ("pkcs11:token=%ff;object=o", "token is not UTF-8"),
        ("pkcs11:token=t;object=o%00", "control characters"),
        ("pkcs11:token=t;object=o%0a", "control characters"),
        ("pkcs11:token=t%20;object=o", "blanks around"),
        ("pkcs11:token=%20t;object=o", "blanks around"),
        (f"pkcs11:token={'t' * 33};object=o", "longer than 32"),
        (f"pkcs11:token=t;object=o;serial={'1' * 17}", "longer than 16"),
        (f"pkcs11:token=t;object={'o' * MAX_CHARS}", "at most"),
        ("pkcs11:token=t;object=o;type=public", "its type is private"),
        ("pkcs11:token=t;object=o;TOKEN=t", "semicolons"),
        ("pkcs11:token=t;object=o;x-vendor=1", "the attribute x-vendor is not known"),
        ("pkcs11:token=t;object=o;library-version=3", "library-version is not known"),
        ("pkcs11:token=t;object=o;slot-id=1", "slots change"),
        ("pkcs11:token=t;object=o;pin-value=1234", "OTPSEAL_PKCS11_PIN_FILE"),
        ("pkcs11:token=t;object=o?pin-value=1234", "do not belong in settings"),
        ("pkcs11:token=t;object=o?pin-source=file:/p", "OTPSEAL_PKCS11_PIN_FILE"),
        ("pkcs11:token=t;object=o?module-path=/m.so", "OTPSEAL_PKCS11_MODULE"),
        ("pkcs11:token=t;object=o?module-path=/m&pin-value=1234", "MODULE"),
        ("pkcs11:token=t;object=o?token=t", "the attribute token is not known"),
        ("pkcs11:token=t;object=o?", "semicolons"),
    ],
)
def test_refuses(text: str, told: str) -> None:
    """Whatever is not wholly understood, with what to do about it."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        parse(text)

    assert "OTPSEAL_KEY" in str(caught.value)
    assert "1234" not in str(caught.value)


@given(
    label=st.text(min_size=1, max_size=8).filter(
        lambda text: text.isprintable() and text == text.strip()
    ),
    key_id=st.binary(min_size=1, max_size=40),
)
def test_reads_what_was_escaped(label: str, key_id: bytes) -> None:
    """Every label and id has a URI that means it: all bytes escaped."""

    def escaped(raw: bytes) -> str:
        return "".join(f"%{byte:02x}" for byte in raw)

    encoded = escaped(label.encode())

    found = parse(f"pkcs11:token={encoded};object={encoded};id={escaped(key_id)}")

    assert Pkcs11Uri(label, label, key_id) == found


@given(st.text(max_size=60).map(lambda text: "pkcs11:token=t;object=o" + text))
def test_is_total(text: str) -> None:
    """Any text is a URI or an error of ours."""
    try:
        found = parse(text)
    except ConfigurationError:
        return
    assert "t" == found.token


@given(
    _LABELS,
    st.none() | _LABELS,
    st.binary(min_size=1, max_size=20),
    st.none() | st.text("0123456789abcdef", min_size=1, max_size=16),
)
def test_what_is_written_is_read(
    token: str, label: str | None, key_id: bytes, serial: str | None
) -> None:
    """`text_of` writes what `parse` reads as the same, in ASCII."""
    uri = Pkcs11Uri(token, object=label, id=key_id, serial=serial)

    assert text_of(uri).isascii()
    assert uri == parse(text_of(uri))


def test_the_error_names_what_was_given() -> None:
    """A setting or an option, as whoever gave it knows it."""
    with pytest.raises(ConfigurationError, match="--key is no PKCS#11 URI"):
        parse("pkcs11:", "--key")
