"""What the tests of keys share: settings with a next key that lies ready."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import TurnedClock

from otpseal import envelope
from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.adapters.key_siblings import next_path
from otpseal.config import Settings
from otpseal.key_lifecycle import KeyLifecycle
from otpseal.secret import Secret
from otpseal.wiring import OpenedService, open_service
from otpseal.wiring_admin import make_lifecycle

DAY_S = 86_400


def key_path(settings: Settings) -> Path:
    """Return where the active key lies."""
    assert settings.key_file is not None
    return settings.key_file


def lay_ready(settings: Settings, keys: RsaKeys) -> None:
    """Put a key pair where the next one lies: making one takes seconds."""
    write_key_pair(keys._private_key, next_path(key_path(settings)))


def key_files(settings: Settings) -> list[str]:
    """Return the names of all key files."""
    return sorted(path.name for path in key_path(settings).parent.iterdir())


def seed_of(number: int) -> Secret:
    """Return a seed of its own for each number."""
    return Secret(bytes([number]) * 32)


def sealed_seed(keys: RsaKeys, number: int) -> str:
    """Return a seed in the classic form."""
    return envelope.seal(seed_of(number), keys.public_key)


@contextmanager
def opened_at(settings: Settings, clock: TurnedClock) -> Iterator[OpenedService]:
    """Open the service as a process does, by a clock that is turned."""
    with open_service(settings, clock=clock, monotonic=clock) as opened:
        yield opened


def lifecycle(
    opened: OpenedService, settings: Settings, clock: TurnedClock
) -> KeyLifecycle:
    """Return what rotates."""
    return make_lifecycle(opened, settings, clock=clock)
