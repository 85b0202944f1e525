"""otpseal.account_id: one spelling for each account, and fences that hold."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from otpseal import account_id
from otpseal.errors import AccountIdRefused

_RULE = r"[a-z0-9][a-z0-9._@-]*(/[a-z0-9][a-z0-9._@-]*)*"
_parts = st.from_regex(r"[a-z0-9][a-z0-9._@-]{0,30}", fullmatch=True)
_ids = st.lists(_parts, min_size=1, max_size=4).map("/".join)
_names = st.text(max_size=128)


@given(text=_ids)
def test_an_id_comes_back_as_it_is(text: str) -> None:
    """Nothing about an id is changed."""
    assert text == account_id.parse_account_id(text)


@given(text=st.one_of(st.text(), st.text("aA0._@-/ \n\u212a\uff41", max_size=6)))
def test_the_rule_is_the_whole_rule(text: str) -> None:
    """Text is an id exactly if the documented expression and length say so."""
    expected = len(text) <= 128 and re.fullmatch(_RULE, text, re.ASCII) is not None

    assert expected == account_id.is_account_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Alice",
        "alice ",
        " alice",
        "alice\n",
        "alice\x00",
        "\uff41lice",
        "\u212aelvin",
        "al\u0131ce",
        "shop/",
        "/shop",
        "shop//alice",
        "shop/../admin",
        "shop/./alice",
        ".alice",
        "-alice",
        "@alice",
        "shop\\alice",
        "alice%20",
        "a" * 129,
    ],
)
def test_other_spellings_are_refused_without_an_echo(text: str) -> None:
    """Case, blanks, look-alikes, empty and dotted parts, length: never folded."""
    with pytest.raises(AccountIdRefused) as raised:
        account_id.parse_account_id(text)

    assert "account_id_refused" == raised.value.code
    assert str(AccountIdRefused()) == str(raised.value)
    assert str(raised.value).isascii()


def test_the_longest_id() -> None:
    """128 characters are an id, and the rule takes no exponential time beyond."""
    assert account_id.is_account_id("a/" * 63 + "ab")
    assert not account_id.is_account_id("a/" * 64)
    assert not account_id.is_account_id("a" * 10_000_000)


@given(text=_ids)
def test_a_prefix_is_an_id_and_a_slash(text: str) -> None:
    """The slash is required, once."""
    assert account_id.is_prefix(text + "/")
    assert not account_id.is_prefix(text)
    assert not account_id.is_prefix(text + "//")
    assert not account_id.is_prefix("/" + text + "/")


@pytest.mark.parametrize("text", ["", "/", "Shop/", "shop/ ", "shop/\n"])
def test_what_is_no_prefix(text: str) -> None:
    """Nothing fences everything by accident."""
    assert not account_id.is_prefix(text)


@given(prefix=_ids, rest=_ids)
def test_a_fence_holds(prefix: str, rest: str) -> None:
    """Behind `shop/` lies all of shop/..., and never shop2 or shop itself."""
    fence = prefix + "/"

    assert account_id.within(fence + rest, fence)
    assert not account_id.within(prefix, fence)
    assert not account_id.within(prefix + rest, fence)
    assert not account_id.within(prefix + "2/" + rest, fence)


@given(account=_ids)
def test_without_a_prefix_there_is_no_fence(account: str) -> None:
    """The empty prefix encloses every account."""
    assert account_id.within(account, "")


@given(account=_ids, prefix=st.text())
def test_what_is_no_prefix_encloses_nothing(account: str, prefix: str) -> None:
    """A damaged prefix, one without its slash included, fails closed."""
    assume(prefix and not account_id.is_prefix(prefix))

    assert not account_id.within(account, prefix)
    assert not account_id.within(account, account)
    assert not account_id.within(account, account[0])


@pytest.mark.parametrize(
    ("issuer", "label", "expected"),
    [
        ("Example", "alice@example.com", "example/alice@example.com"),
        ("Big Corp, Inc.", "Bob  O'Neil", "big-corp-inc./bob-o-neil"),
        ("", "Alice", "alice"),
        ("Example", "", "example"),
        ("a/b", "c/d", "a-b/c-d"),
        ("--A--", "__b__", "a/b__"),
        ("Zürich", "\u212aelvin", "z-rich/elvin"),
        ("x -- y", ".hidden", "x-y/hidden"),
        ("日本", "alice", "alice"),
        ("日本", "…", None),
        ("", "", None),
        ("a" * 64, "b" * 64, None),
        ("a" * 63, "b" * 64, "a" * 63 + "/" + "b" * 64),
    ],
)
def test_proposals(issuer: str, label: str, expected: str | None) -> None:
    """What is documented: lower case, dashes, issuer/label, None rather than a cut."""
    assert expected == account_id.propose(issuer, label)


@given(issuer=_names, label=_names)
def test_a_proposal_is_an_id(issuer: str, label: str) -> None:
    """Whatever the names: an id or None, and the same at every call."""
    proposed = account_id.propose(issuer, label)

    assert proposed is None or account_id.is_account_id(proposed)
    assert proposed == account_id.propose(issuer, label)


@given(account=_parts.filter(lambda text: "--" not in text))
def test_a_label_that_is_an_id_stays_one(account: str) -> None:
    """A single-part id as a label proposes itself, but for dashes at its end."""
    assert account.rstrip("-") == account_id.propose("", account)
