"""Stores with many accounts, sealed and written as the service itself does it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from otpseal import Settings, open_service
from otpseal.access import Scope
from otpseal.secret import Secret
from otpseal.seed_keeping import NewSeed, SeedKeeper
from otpseal.wiring import OpenedService

SEED_BYTES = 20
_PORTION = 50_000


@dataclass(frozen=True)
class Filled:
    """A store with accounts, and how to start a service on it.

    Attributes:
        data_dir: the service's.
        count: of the accounts; their names are `name_of(0)` and so on.
        token: of a caller with the scope `verify`.
        environment: of the service.
    """

    data_dir: Path
    count: int
    token: str
    environment: dict[str, str]


def name_of(number: int) -> str:
    """Return an account's name; all are of one length."""
    return f"b{number:07d}"


def fill(
    data_dir: Path, count: int, *, key_file: Path, database_url: str | None = None
) -> Filled:
    """Make a store with `count` accounts and one caller; keeps the key it finds."""
    settings = Settings(data_dir=data_dir, key_file=key_file, database_url=database_url)
    with open_service(settings) as opened:
        # In the order of their fingerprints, which have an index of their own: at
        # random, a million of them would read and write most of it for each portion.
        key = opened.storage_key
        seeds = [Secret(secrets.token_bytes(SEED_BYTES)) for _ in range(count)]
        seeds.sort(key=key.fingerprint)
        for start in range(0, count, _PORTION):
            _add(opened, seeds[start : start + _PORTION], start)
        made = opened.service.callers.create("bench", frozenset({Scope.VERIFY}))
        assert made.token is not None
        token = made.token.reveal().decode("ascii")
    environment = {"OTPSEAL_KEY_FILE": str(key_file)}
    if database_url is not None:
        environment["OTPSEAL_DATABASE_URL"] = database_url
    return Filled(data_dir, count, token, environment)


def _add(opened: OpenedService, seeds: list[Secret], start: int) -> None:
    with opened.store.transaction() as tx:
        keeper = SeedKeeper(tx, opened.storage_key)
        now = opened.service.clock()
        tx.add_accounts(
            [
                keeper.seal(NewSeed(name_of(start + i), seed), now)
                for i, seed in enumerate(seeds)
            ]
        )


@contextmanager
def opened_store(filled: Filled) -> Iterator[OpenedService]:
    """Open a filled store from here."""
    settings = Settings(
        data_dir=filled.data_dir,
        key_file=Path(filled.environment["OTPSEAL_KEY_FILE"]),
        database_url=filled.environment.get("OTPSEAL_DATABASE_URL"),
    )
    with open_service(settings) as opened:
        yield opened
