"""What a check says: all is well, or what is wrong and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at.
        verdict: how it is.
        text: what was found; holds no secret.
        advice: what to do; empty if all is well.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""


def ok(check: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Verdict.OK, text)


def warning(check: str, text: str, advice: str) -> Finding:
    """Return a finding that something is not as it should be."""
    return Finding(check, Verdict.WARNING, text, advice)


def failure(check: str, text: str, advice: str) -> Finding:
    """Return a finding that something does not work or does not protect."""
    return Finding(check, Verdict.FAILURE, text, advice)
