"""otpseal.key_lifecycle: the next key becomes active, whatever interrupts it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TurnedClock
from keys_fixture import (
    DAY_S,
    key_files,
    key_path,
    lay_ready,
    lifecycle,
    opened_at,
    sealed_seed,
    seed_of,
)

from otpseal import keypolicy
from otpseal.adapters.file_keys import (
    RsaKeys,
    load_keys,
    load_public_key,
    public_path,
    write_key_pair,
)
from otpseal.adapters.key_siblings import SiblingKeys, next_path, retired_path
from otpseal.config import Settings
from otpseal.errors import KeyRefused, KeyUnavailable, StoreMismatch
from otpseal.key_lifecycle import MAX_OVERLAP_S, KeyLifecycle, KeyTable
from otpseal.key_records import KeyState
from otpseal.key_report import list_keys
from otpseal.ports import Store, Transaction
from otpseal.ports_key_files import Step
from otpseal.service import Imported
from otpseal.storage_key import StorageKey
from otpseal.store_inspection import inspect_store
from otpseal.wiring_admin import make_storage_rotation

_PROGRAM = Path(__file__).with_name("rotation_killed.py")


def _rotated_files(before: str) -> list[str]:
    # Sorted: a kid may begin with a letter that comes after those of "pem".
    names = (
        f"student_{half}{kid}.pem"
        for half in ("private", "public")
        for kid in ("", f".{before[:16]}")
    )
    return sorted(names)


def _kinds(opened: object) -> list[str]:
    with opened.store.transaction() as tx:  # type: ignore[attr-defined]
        return [event.kind for event in tx.newest_events(100)]


def test_a_rotation(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """The next key wraps the storage key and has the active files; seeds stay."""
    with opened_at(settings, clock) as opened:
        opened.service.import_sealed(sealed_seed(service_keys, 1))
        lay_ready(settings, other_keys)

        done = lifecycle(opened, settings, clock).rotate(overlap_s=DAY_S)

        with opened.store.transaction() as tx:
            record = tx.storage_key_record()
            table = KeyTable(tx, opened.storage_key)
    assert record is not None
    assert (other_keys.kid, service_keys.kid) == (done.kid, done.before)
    assert clock() + DAY_S == done.until
    assert other_keys.kid == StorageKey.record_kid(record)
    assert {
        other_keys.kid: KeyState.ACTIVE,
        service_keys.kid: KeyState.RETIRING,
    } == {kid: row.state for kid, row in table.lives.rows.items()}
    assert _rotated_files(service_keys.kid) == key_files(settings)
    assert other_keys.kid == load_keys(key_path(settings)).kid
    public = load_public_key(public_path(key_path(settings)))
    assert other_keys.kid == keypolicy.key_id(public)
    with opened_at(settings, clock) as opened:
        row = opened.service.account()
        assert row is not None
        assert seed_of(1).reveal() == row.open_seed(opened.storage_key).reveal()
        assert "import-key.rotated" == _kinds(opened)[-1]


def test_a_key_is_made_if_none_lies_ready(
    settings: Settings, clock: TurnedClock, service_keys: RsaKeys
) -> None:
    """`rotate` alone is enough; the new key has the size that was asked for."""
    with opened_at(settings, clock) as opened:
        files = SiblingKeys(key_path(settings), None, bits=3072)
        store, storage_key = opened.store, opened.storage_key

        done = KeyLifecycle(store, storage_key, files, clock).rotate()

    assert done.before == service_keys.kid
    assert 3072 == load_keys(key_path(settings)).public_key.key_size
    assert 0o600 == key_path(settings).stat().st_mode & 0o777


class _Meanwhile:
    """A store at whose next transaction something else was quicker, once."""

    def __init__(self, store: Store, first: Callable[[], object] | None = None) -> None:
        self._store = store
        self.first = first

    def transaction(
        self, *, patience_s: float = 5.0, shared: bool = False
    ) -> AbstractContextManager[Transaction]:
        """See `otpseal.ports.Store`."""
        first, self.first = self.first, None
        if first is not None:
            first()
        return self._store.transaction(patience_s=patience_s, shared=shared)


def test_the_storage_key_is_replaced_meanwhile(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """The next key wraps the storage key of now, or every seed would be lost."""
    lay_ready(settings, other_keys)
    with opened_at(settings, clock) as opened:
        opened.service.import_sealed(sealed_seed(service_keys, 1))
        store = _Meanwhile(opened.store)

        def reached(step: Step) -> None:
            if step is Step.MADE:
                store.first = replaced

        def replaced() -> None:
            with opened_at(settings, clock) as quicker:
                make_storage_rotation(quicker, clock=clock).replace()

        files = SiblingKeys(key_path(settings), None)
        cycle = KeyLifecycle(store, opened.storage_key, files, clock, reached=reached)
        assert other_keys.kid == cycle.rotate().kid

    assert store.first is None
    with opened_at(settings, clock) as opened:
        assert "storage-key.replaced" in _kinds(opened)
        row = opened.service.account()
        assert row is not None
        assert seed_of(1).reveal() == row.open_seed(opened.storage_key).reveal()


@pytest.mark.parametrize("step", [*Step])
def test_a_rotation_killed_at_each_step(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
    step: Step,
) -> None:
    """SIGKILL anywhere: the store opens, both keys open, a repetition finishes it."""
    with opened_at(settings, clock) as opened:
        opened.service.import_sealed(sealed_seed(service_keys, 1), account="before")
    lay_ready(settings, other_keys)
    arguments = [settings.data_dir, key_path(settings), step.value, str(clock())]

    killed = subprocess.run(
        [sys.executable, _PROGRAM, *arguments],
        check=False,
        capture_output=True,
        timeout=60,
    )

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    is_committed = step not in {Step.MADE, Step.WRITTEN}
    kid = other_keys.kid if is_committed else service_keys.kid
    with inspect_store(settings, clock=clock) as looked_at:
        assert kid == looked_at.keys.kid
    with opened_at(settings, clock) as opened:
        assert kid == opened.keys.kid
        service = opened.service
        said = service.import_sealed(sealed_seed(service_keys, 2), account="old")
        assert Imported.NEW is said
        done = lifecycle(opened, settings, clock).rotate(overlap_s=DAY_S)
        # What was committed is only finished: no third key.
        assert (None if is_committed else service_keys.kid) == done.before
        clock.turn(1)
        said = service.import_sealed(sealed_seed(other_keys, 3), account="new")
        assert Imported.NEW is said
    assert _rotated_files(service_keys.kid) == key_files(settings)
    assert other_keys.kid == load_keys(key_path(settings)).kid
    public = load_public_key(public_path(key_path(settings)))
    assert other_keys.kid == keypolicy.key_id(public)
    with opened_at(settings, clock) as opened:
        assert {"before", "old", "new"} == set(_accounts(opened))
        assert 1 == _kinds(opened).count("import-key.rotated")


def _accounts(opened: object) -> list[str]:
    with opened.store.transaction() as tx:  # type: ignore[attr-defined]
        found: list[str] = tx.account_ids()
        return found


def test_a_key_does_not_come_back(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """A key that had its time is refused as the next one, and nothing is changed."""
    with opened_at(settings, clock) as opened:
        lay_ready(settings, other_keys)
        lifecycle(opened, settings, clock).rotate(overlap_s=0)
        lay_ready(settings, service_keys)

        for act in ("rotate", "prepare"):
            with pytest.raises(KeyRefused, match="does not come back"):
                getattr(lifecycle(opened, settings, clock), act)()

        with opened.store.transaction() as tx:
            table = KeyTable(tx, opened.storage_key)
    assert other_keys.kid == table.lives.active


def test_a_record_that_is_put_back_opens_nothing(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """Who writes the database puts the record of the retired key back: refused.

    Though the file of that key is still there.
    """
    with opened_at(settings, clock) as opened:
        with opened.store.transaction() as tx:
            record = tx.storage_key_record()
        lay_ready(settings, other_keys)
        lifecycle(opened, settings, clock).rotate(overlap_s=0)
        with opened.store.transaction() as tx:
            assert record is not None
            tx.replace_storage_key_record(record)

    with pytest.raises(StoreMismatch), opened_at(settings, clock):
        pass
    assert retired_path(key_path(settings), service_keys.kid).exists()


def test_prepare(settings: Settings, clock: TurnedClock, other_keys: RsaKeys) -> None:
    """The next key is published once, and the rotation then takes that one."""
    with opened_at(settings, clock) as opened:
        lay_ready(settings, other_keys)
        cycle = lifecycle(opened, settings, clock)

        first, second = cycle.prepare(), cycle.prepare()
        done = cycle.rotate()

        kinds = _kinds(opened)
    assert (other_keys.kid, False, True) == (first.kid, first.made, first.published)
    assert not second.published
    assert other_keys.kid == done.kid
    assert ["import-key.prepared", "import-key.rotated"] == kinds[-2:]


def test_a_replica_without_the_file(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """It says which file is missing where; with the file beside its own it opens."""
    with opened_at(settings, clock) as opened:
        lay_ready(settings, other_keys)
        lifecycle(opened, settings, clock).rotate()
    for path in key_path(settings).parent.iterdir():
        path.unlink()
    write_key_pair(service_keys._private_key, key_path(settings))

    with pytest.raises(StoreMismatch), opened_at(settings, clock):
        pass
    files = SiblingKeys(key_path(settings), None)
    with pytest.raises(KeyUnavailable, match=str(next_path(key_path(settings)))):
        files.promote(other_keys.kid, lambda _step: None)
    lay_ready(settings, other_keys)
    with opened_at(settings, clock) as opened:
        assert other_keys.kid == opened.keys.kid
        assert lifecycle(opened, settings, clock).rotate().before is None
    assert _rotated_files(service_keys.kid) == key_files(settings)


@pytest.mark.parametrize("overlap_s", [-1, MAX_OVERLAP_S + 1, float("nan")])
def test_an_overlap_out_of_range(
    settings: Settings, clock: TurnedClock, overlap_s: float
) -> None:
    """A mistyped overlap changes nothing."""
    with opened_at(settings, clock) as opened, pytest.raises(ValueError, match="366"):
        lifecycle(opened, settings, clock).rotate(overlap_s=overlap_s)


def test_the_list(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """Each key, its state, and what needs it; a planted row is named as altered."""
    with opened_at(settings, clock) as opened:
        opened.service.import_sealed(sealed_seed(service_keys, 1))
        lay_ready(settings, other_keys)
        lifecycle(opened, settings, clock).rotate(overlap_s=DAY_S)
        with opened.store.transaction() as tx:
            row = tx.import_keys()[0]
            tx.put_import_key(replace(row, kid="planted", state=KeyState.NEXT))

        found = list_keys(opened.store, opened.storage_key, clock)
        clock.turn(DAY_S)
        later = list_keys(opened.store, opened.storage_key, clock)

    assert [
        (other_keys.kid, "active"),
        (service_keys.kid, "retiring"),
        ("planted", "altered"),
        ("", "active"),
    ] == [(key.kid, key.state) for key in found]
    assert "retired" == later[1].state
    assert "the seeds of 1 accounts" == found[3].needed_by[0]
