"""Settings -> Service or Authority.

This, and the modules beside it that it is made of, are the only ones that name
adapters: `otpseal.unlocking` brings store and keys together, `otpseal.wiring_admin`
and `otpseal.wiring_authority` have what administrators need besides.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from otpseal import throttle
from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.authority import Authority
from otpseal.config import Settings
from otpseal.key_places import SERVICE_KEY_BITS, key_places
from otpseal.key_ring import KeyRing
from otpseal.minute import MinuteJob
from otpseal.ports import Clock, CodeLog
from otpseal.seed_adoption import adopt_seed_file
from otpseal.service import DEFAULT_ACCOUNT, Service
from otpseal.unlocking import (
    AUTHORITY_KEY_NAME,
    SERVICE_KEY_NAME,
    KeyPlace,
    Opened,
    open_store,
)


@dataclass(frozen=True, slots=True)
class OpenedService(Opened):
    """A service ready for use.

    Attributes:
        service: the use cases.
        code_log: the one-line-a-minute file, if one is configured.
        minute_job: what cron runs, if a code log is configured.
        key_ring: the import keys of every age; `keys` is the same.
    """

    service: Service
    code_log: CodeLog | None
    minute_job: MinuteJob | None
    key_ring: KeyRing | None = None


@dataclass(frozen=True, slots=True)
class OpenedAuthority(Opened):
    """An authority ready for use."""

    authority: Authority


@contextmanager
def open_service(
    settings: Settings,
    *,
    clock: Clock = time.time,
    monotonic: Clock = time.monotonic,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
    create: bool = True,
    one_shot: bool = False,
) -> Iterator[OpenedService]:
    """Open the service's store and keys; close them at the end of the block.

    Args:
        settings: where they are.
        clock: gives the Unix time.
        monotonic: seconds that only ever rise, to tell a leap of `clock` by.
        policy: the price of wrong codes.
        create: whether a store and a key are made where there are none; else that
            is an error, most likely a mistyped directory.
        one_shot: whether the caller holds what it sealed before a transaction: it ends
            if the storage key is replaced meanwhile, others take the new one.

    Raises:
        ConfigurationError, KeyUnavailable, KeyRefused, StoreUnavailable: says what
            to do.
    """
    place = KeyPlace(settings, SERVICE_KEY_NAME, SERVICE_KEY_BITS if create else None)
    with open_store(settings, place, clock, one_shot=one_shot) as opened:
        ring = KeyRing(
            opened.keys,
            store=opened.store,
            storage_key=opened.storage_key,
            load=key_places(settings, SERVICE_KEY_NAME).load,
            clock=clock,
            monotonic=monotonic,
        )
        service = Service(
            opened.store,
            keys=ring,
            unwrap=ring.unwrap,
            storage_key=opened.storage_key,
            clock=clock,
            monotonic=monotonic,
            window=settings.window_steps,
            policy=policy,
            alarm_failures=settings.alarm_failures,
            suites=settings.accept_suites,
        )
        adopt_seed_file(settings.data_dir / "seed.txt", service)
        code_log = _code_log(settings)
        yield OpenedService(
            store=opened.store,
            directory=opened.directory,
            keys=ring,
            storage_key=opened.storage_key,
            audit=opened.audit,
            service=service,
            code_log=code_log,
            minute_job=_minute_job(opened, code_log, clock),
            key_ring=ring,
            outdated=opened.outdated,
        )


def _code_log(settings: Settings) -> CodeLog | None:
    if settings.code_log is None:
        return None
    return FileCodeLog(settings.code_log, max_bytes=settings.code_log_max_bytes)


def _minute_job(
    opened: Opened, code_log: CodeLog | None, clock: Clock
) -> MinuteJob | None:
    if code_log is None:
        return None
    return MinuteJob(
        opened.store,
        storage_key=opened.storage_key,
        code_log=code_log,
        clock=clock,
        account=DEFAULT_ACCOUNT,
    )


@contextmanager
def open_authority(
    settings: Settings,
    *,
    clock: Clock = time.time,
    new_key_bits: int | None = None,
) -> Iterator[OpenedAuthority]:
    """Open the authority's store and keys; raises as `open_service` does.

    `new_key_bits` is the size of the key that is made for an empty store; by default
    a missing store is an error.
    """
    place = KeyPlace(settings, AUTHORITY_KEY_NAME, new_key_bits)
    with open_store(settings, place, clock) as opened:
        authority = Authority(
            opened.store,
            keys=opened.keys,
            storage_key=opened.storage_key,
            clock=clock,
            max_seeds=settings.authority_max_seeds,
        )
        yield OpenedAuthority(
            store=opened.store,
            directory=opened.directory,
            keys=opened.keys,
            storage_key=opened.storage_key,
            audit=opened.audit,
            authority=authority,
        )
