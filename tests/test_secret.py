"""otpseal.secret: bytes that do not come out by accident."""

import copy
import dataclasses
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal.secret import Secret

_CANARY = b"canary-0123456789"


@dataclasses.dataclass(frozen=True)
class _Holder:
    secret: Secret


def test_comes_out_by_reveal_alone() -> None:
    """The bytes go in and come out, and the length is known."""
    secret = Secret(_CANARY)

    assert _CANARY == secret.reveal()
    assert len(_CANARY) == len(secret)


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(_CANARY)),
        str(Secret(_CANARY)),
        f"{Secret(_CANARY)}",
        f"{Secret(_CANARY)!r:>40}",
        f"{[Secret(_CANARY)]}",
        f"{_Holder(Secret(_CANARY))}",
        "%s" % Secret(_CANARY),  # noqa: UP031 - logging formats this way
    ],
)
def test_never_prints(shown: str) -> None:
    """Every way to make text of it shows the length alone."""
    assert "canary" not in shown
    assert _CANARY.hex() not in shown
    assert "17 bytes" in shown


def test_never_prints_in_a_log_or_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a log record nor a traceback with locals holds the bytes."""
    secret = Secret(_CANARY)
    try:
        raise ValueError(secret)
    except ValueError as error:
        shown = "".join(
            traceback.TracebackException.from_exception(
                error, capture_locals=True
            ).format()
        )

    logging.getLogger("otpseal").error("here is %s and %r", secret, secret)

    assert "Secret(17 bytes)" in shown
    assert "canary-0123" not in shown.replace("_CANARY", "")
    assert "canary" not in caplog.text


def test_is_equal_by_content() -> None:
    """Two secrets of the same bytes are equal, others and bare bytes are not."""
    assert Secret(_CANARY) == Secret(_CANARY)
    assert Secret(_CANARY) != Secret(_CANARY + b"x")
    assert Secret(_CANARY) != Secret(_CANARY[::-1])
    assert Secret(_CANARY) != _CANARY


@given(one=st.binary(max_size=40), other=st.binary(max_size=40))
def test_equality_is_that_of_the_bytes(one: bytes, other: bytes) -> None:
    """For any two byte strings."""
    assert (one == other) is (Secret(one) == Secret(other))


def test_does_not_change_with_its_source() -> None:
    """A bytearray that is wiped afterwards does not wipe the secret."""
    source = bytearray(_CANARY)

    secret = Secret(source)
    source[:] = bytes(len(source))

    assert _CANARY == secret.reveal()


@pytest.mark.parametrize(
    "leak",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        hash,
        bytes,
        list,
        json.dumps,
        vars,
        lambda secret: dataclasses.asdict(_Holder(secret)),
    ],
    ids=lambda leak: leak.__name__,
)
def test_cannot_be_copied_out_unseen(leak) -> None:  # noqa: ANN001 - any callable
    """Pickling, copying, hashing and serialising are refused."""
    with pytest.raises(TypeError):
        leak(Secret(_CANARY))
