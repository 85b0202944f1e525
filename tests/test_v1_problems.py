"""The v1 API's table of problems is whole, and says nothing that it must not."""

import json
from collections.abc import Iterator

import pytest

from otpseal import errors
from otpseal.errors import OtpsealError
from otpseal.http import v1_problems, wire
from otpseal.http.v1_problems import INTERNAL, problem_of, problem_of_refusal


def tree(kind: type[OtpsealError] = OtpsealError) -> Iterator[type[OtpsealError]]:
    """Give every deliberate error but the root."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
        yield from tree(child)


def unanswered(kinds: Iterator[type[OtpsealError]]) -> list[str]:
    """Return the errors that have no answer, neither own nor inherited."""
    return [
        kind.__name__
        for kind in kinds
        if not any(base in v1_problems._PROBLEMS for base in kind.__mro__)
    ]


def made(kind: type[OtpsealError]) -> OtpsealError:
    """Make an error with a canary in it."""
    try:
        return kind("cAnArY7f3a91")
    except TypeError:
        return kind()


def test_every_error_has_an_answer() -> None:
    """An error that is added needs its line in the table."""
    assert [] == unanswered(tree())


def test_a_planted_error_is_found() -> None:
    """The check can fail."""

    class Planted(OtpsealError):  # noqa: N818 - as ours are named
        pass

    assert ["Planted"] == unanswered(iter([Planted]))


@pytest.mark.parametrize("kind", list(tree()))
def test_the_form(kind: type[OtpsealError]) -> None:
    """RFC 9457: type, title, status; a code of the error's own or its parent's."""
    problem = problem_of(made(kind))
    content = json.loads(problem.answer.tail.removeprefix(b"\r\n"))

    assert content["type"] == f"urn:otpseal:problem:{content['code']}"
    assert content["status"] == problem.status
    codes = {base.code for base in kind.__mro__ if hasattr(base, "code")}
    assert problem is INTERNAL or content["code"] in codes
    assert b"content-type: application/problem+json\r\n" in problem.answer.head
    assert b"cache-control: no-store\r\n" in problem.answer.head
    if problem.status in (429, 503):
        assert b"retry-after: " in problem.answer.head


@pytest.mark.parametrize("kind", list(tree()))
def test_texts_of_errors_stay_inside(kind: type[OtpsealError]) -> None:
    """Only these two tell theirs, which hold nothing of the store or the input."""
    told = (errors.Forbidden, errors.ParametersRefused)

    body = problem_of(made(kind)).answer.tail

    assert (b"cAnArY7f3a91" in body) == (kind in told)


def test_every_refusal_of_the_wire_has_an_answer() -> None:
    """Bodies are refused in the form of this API, not in the classic one's."""
    refusals = [each for each in vars(wire).values() if isinstance(each, wire.Refusal)]

    assert refusals
    for refusal in refusals:
        assert refusal.status == problem_of_refusal(refusal).status
