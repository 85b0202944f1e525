"""An authority that was initialised, with a small key, and a store of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import TurnedClock

from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.config import PinnedBy, Settings
from otpseal.unlocking import AUTHORITY_KEY_NAME
from otpseal.wiring import OpenedAuthority, open_authority
from otpseal.wiring_authority import initialise

DAY = 86_400


def initialised(
    directory: Path,
    keys: RsaKeys,
    clock: TurnedClock,
    *,
    pinned_by: PinnedBy = PinnedBy.CA,
    ps256: bool = False,
) -> Settings:
    """Make an authority in a directory; return its settings."""
    settings = Settings(data_dir=directory, authority_pinned_by=pinned_by)
    write_key_pair(keys._private_key, settings.key_path(AUTHORITY_KEY_NAME))
    initialise(settings, ps256=ps256, rsa_ca=False, clock=clock)
    with open_authority(settings, clock=clock, new_key_bits=3072):
        return settings


@contextmanager
def opened_at(settings: Settings, clock: TurnedClock) -> Iterator[OpenedAuthority]:
    """Open its store."""
    with open_authority(settings, clock=clock) as opened:
        yield opened
