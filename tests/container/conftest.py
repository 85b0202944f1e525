"""The containers under test: one main stack and two that suffer in the background.

Cron works by the minute, so the tests wait side by side: while the main stack is
tested, two more live through their troubles in threads (`scenarios.py`), and the
tests at the end look at what was observed.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from container import scenarios
from container.harness import (
    CA_FILE,
    ENABLED,
    IMAGE,
    SEALED_SEED,
    Stack,
    docker,
    session_over,
)

STUDENT = "4711"
REPOSITORY = "https://example.org/class/otp"

#: The fixtures that a background scenario fills.
BACKGROUND = {"healed": scenarios.heal, "paused": scenarios.pause}


#: Waits for minutes of the main stack; the replicas' tests go before it.
LONG_WAIT = "test_one_line_a_minute_and_nothing_else"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test the replicas while the main stack's code log gets its lines."""
    names = [item.name for item in items]
    if LONG_WAIT in names:
        moved = [item for item in items if item.path.name == "test_replicas.py"]
        at = names.index(LONG_WAIT)
        before = [item for item in items[:at] if item not in moved]
        after = [item for item in items[at:] if item not in moved]
        items[:] = [*before, *moved, *after]


@pytest.fixture(scope="session")
def image() -> str:
    """Name the image under test, or skip: plain pytest has no engine."""
    if not ENABLED:
        pytest.skip("needs a container engine: run tests/container/run")
    return IMAGE


@pytest.fixture(scope="session")
def background(
    image: str, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Any]]]:
    """Start the scenarios that some test of this session will ask for."""
    items = request.session.items
    asked = {name for item in items for name in getattr(item, "fixturenames", ())}
    stacks = {name: Stack(f"otpseal-{name}") for name in BACKGROUND if name in asked}
    with ThreadPoolExecutor() as pool:
        yield {
            name: pool.submit(BACKGROUND[name], stack) for name, stack in stacks.items()
        }
        session_over.set()
    for stack in stacks.values():
        stack.down("--volumes")


@pytest.fixture(scope="session")
def fresh(image: str, background: object) -> Iterator[Stack]:
    """A service and an authority, just started on empty volumes."""
    stack = Stack("otpseal-main")
    stack.up("service", "authority")
    yield stack
    stack.down("--volumes")


@pytest.fixture(scope="session")
def stack(fresh: Stack) -> Stack:
    """The main stack, with a seed that its authority issued."""
    fresh.wait_healthy(within_s=120)
    # RSA-8192 takes its time on a slow machine, and three services start beside it.
    fresh.wait_healthy("authority", within_s=300)
    fresh.otpseal(
        *("seed", "request", "--url", "https://authority:8081/", "--ca-file", CA_FILE),
        *("--student-id", STUDENT, "--repo-url", REPOSITORY),
        *("--public-key", "/keys/student_public.pem", "--out", SEALED_SEED),
    )
    fresh.otpseal("seed", "import", SEALED_SEED)
    return fresh


@pytest.fixture(scope="session")
def healed(background: dict[str, Future[Any]]) -> scenarios.Healed:
    """What happened to the stack whose code log was broken."""
    result = background["healed"].result(timeout=600)
    assert isinstance(result, scenarios.Healed)
    return result


@pytest.fixture(scope="session")
def paused(background: dict[str, Future[Any]]) -> scenarios.Paused:
    """What happened to the stack that was paused."""
    result = background["paused"].result(timeout=600)
    assert isinstance(result, scenarios.Paused)
    return result


@pytest.fixture(scope="session")
def saved_image(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image with all its layers, as `docker save` writes it."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    docker("save", "--output", str(path), image)
    return path
