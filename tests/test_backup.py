"""Backups: what is in them, what is refused, and that spent stays spent."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backup_shop import ALICE, BOB, COUNTS, PINNED, Shop, restorer
from conftest import TurnedClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_disk import tmpfs
from sqlalchemy import text
from stores import make_sqlite

from otpseal import subscription, totp
from otpseal.accounts import NewAccount
from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.adapters.sql_store import SqlStore
from otpseal.attempt import Purpose
from otpseal.errors import BackupRefused, OtpsealError, StoreUnavailable
from otpseal.ledger import AuditLog
from otpseal.restore import Restored
from otpseal.secret import Secret
from otpseal.service import Attempt
from otpseal.subscribers import Offer, SubscriberBook
from otpseal.verification import Decision, Outcome

MakeStore = Callable[[], SqlStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """What makes one empty store after another."""
    made: list[SqlStore] = []
    databases = []

    def make() -> SqlStore:
        if request.param == "sqlite":
            directory = tmp_path / str(len(made))
            directory.mkdir()
            made.append(make_sqlite(directory))
        else:
            cluster = request.getfixturevalue("postgres")
            manager = cluster.database()
            databases.append(manager)
            made.append(manager.__enter__().open_store(reads_clock=False))
        return made[-1]

    yield make
    for store in made:
        store.close()
    for manager in databases:
        manager.__exit__(None, None, None)


@pytest.fixture
def shop(make_store: MakeStore, service_keys: RsaKeys, clock: TurnedClock) -> Shop:
    """A store with something in it."""
    made = Shop.opened(make_store(), service_keys, clock)
    made.fill()
    return made


@pytest.fixture
def disk_shop(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Shop]:
    """The same on SQLite only."""
    made = Shop.opened(make_sqlite(tmp_path), service_keys, clock)
    made.fill()
    yield made
    made.store.close()


@pytest.fixture
def one_backup(disk_shop: Shop) -> bytes:
    """A backup, the same for all examples."""
    return disk_shop.backup()


def restored_into(shop: Shop, backup: bytes, **options: Any) -> Restored:  # noqa: ANN401
    """Restore a backup into the shop's store."""
    restoring = restorer(shop.store, shop.keys, shop.clock)
    return restoring.restore(io.BytesIO(backup), **options)


def moved(
    shop: Shop,
    backup: bytes,
    store: SqlStore,
    **options: Any,  # noqa: ANN401 - of `restore`
) -> tuple[Shop, Restored]:
    """Restore a backup into an empty store; returns a service on that."""
    restoring = restorer(store, shop.keys, shop.clock)
    done = restoring.restore(io.BytesIO(backup), **options)
    return Shop.opened(store, shop.keys, shop.clock), done


def use_recovery(shop: Shop, code: str) -> Outcome:
    """Use a recovery code of alice's."""
    attempt = Attempt(code.replace("-", ""), "alice", purpose=Purpose.RECOVER)
    (done,) = shop.service.verify_batch([attempt])
    assert isinstance(done, Decision)
    return done.outcome


def tables(shop: Shop) -> list[dict[str, Any]]:
    """Return a backup's rows, but for the events of backups themselves."""
    rows = [json.loads(line) for line in shop.backup().splitlines()[1:-2]]
    return [row for row in rows if row["row"].get("kind") != "backup.written"]


# What comes back.


def test_everything_comes_back(shop: Shop, make_store: MakeStore) -> None:
    """Into an empty store: the same rows, but for what must not be as it was."""
    before = tables(shop)

    there, done = moved(shop, shop.backup(), make_store(), unused_since=True)

    assert (2, 1, [], [], []) == (
        done.accounts,
        done.raised,
        done.unreadable,
        done.counters_unknown,
        done.recovery_void,
    )
    after = [r for r in tables(there) if r["row"].get("kind") != "backup.restored"]
    step = totp.step_at(shop.clock()) + 1
    for row in before:
        if row["row"].get("id") == "alice":
            row["row"]["last_step"] = step
    assert before == after
    log = AuditLog(there.store, there.service.storage_key, there.clock)
    records = log.newest(100)
    assert all(record.genuine for record in records)
    assert "backup.restored" in {record.row.kind for record in records}


def test_one_database_to_the_other(
    make_store: MakeStore, tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """A backup of either database is restored into the other."""
    here = Shop.opened(make_sqlite(tmp_path), service_keys, clock)
    here.fill()

    there, _ = moved(here, here.backup(), make_store())
    (back_at := tmp_path / "back").mkdir()
    back, done = moved(there, there.backup(), make_sqlite(back_at))

    assert 2 == done.accounts
    clock.turn(90)
    assert Outcome.ACCEPTED is back.try_code(back.code())
    there.service.accounts.enable("bob")  # the sequence of events goes on


@pytest.mark.parametrize("when", ["before", "after"])
def test_spent_stays_spent(shop: Shop, make_store: MakeStore, when: str) -> None:
    """A code accepted before the backup, or after it, is refused after a restore.

    Whether the store is there or lost.
    """
    if when == "before":
        assert Outcome.ACCEPTED is shop.try_code(shop.code())
    backup = shop.backup()
    if when == "after":
        assert Outcome.ACCEPTED is shop.try_code(shop.code())
    coming = totp.generate(ALICE, shop.clock() + 30).text

    there, _ = moved(shop, backup, make_store())
    restored_into(shop, backup, replace_existing=True)

    for place in (there, shop):
        assert Outcome.REPLAYED is place.try_code(place.code())
        assert Outcome.REPLAYED is place.try_code(coming)
    shop.clock.turn(90)
    assert Outcome.ACCEPTED is there.try_code(there.code())


def test_a_ticket_that_may_be_used_has_expired(
    shop: Shop, make_store: MakeStore
) -> None:
    """A used ticket keeps its answer; an unused one is good only where it is known."""
    book = SubscriberBook(shop.store, shop.service.storage_key, shop.clock)
    book.add("shop")
    for account in ("used", "unused"):
        ticket = book.give_ticket("shop", Offer(account)).ticket
        digest = subscription.ticket_digest(ticket)
        assert digest is not None
        if account == "used":
            with shop.store.transaction() as tx:
                found = tx.ticket(subscription.resting(digest))
                assert found is not None
                tx.put_ticket(replace(found, kid="k" * 43, answer="{}"))
    resting = subscription.resting(digest)
    backup = shop.backup()
    with shop.store.transaction() as tx:
        before = tx.ticket(resting)
    assert before is not None

    lost, done = moved(shop, backup, make_store())
    with lost.store.transaction() as tx:
        assert tx.ticket(resting) == replace(before, expires_at=shop.clock())
    assert 1 == done.tickets_void

    there = restored_into(shop, backup, replace_existing=True)
    with shop.store.transaction() as tx:
        assert tx.ticket(resting) == before
    assert 0 == there.tickets_void


def test_unused_tickets_of_a_planned_move_stay(
    shop: Shop, make_store: MakeStore
) -> None:
    """An administrator who says that nothing happened since is believed."""
    book = SubscriberBook(shop.store, shop.service.storage_key, shop.clock)
    book.add("shop")
    digest = subscription.ticket_digest(book.give_ticket("shop", Offer("a")).ticket)
    assert digest is not None

    there, done = moved(shop, shop.backup(), make_store(), unused_since=True)

    assert 0 == done.tickets_void
    with there.store.transaction() as tx:
        found = tx.ticket(subscription.resting(digest))
    assert found is not None
    assert found.expires_at > shop.clock()


def test_counters_of_the_replaced_store_are_kept(shop: Shop) -> None:
    """A HOTP counter is never lowered; the account goes on from there."""
    backup = shop.backup()
    assert Outcome.ACCEPTED is shop.try_code(shop.counted(9), "bob")

    done = restored_into(shop, backup, replace_existing=True)

    assert [] == done.counters_unknown
    assert Outcome.REPLAYED is shop.try_code(shop.counted(9), "bob")
    assert Outcome.WRONG is shop.try_code(shop.counted(7), "bob")
    assert Outcome.ACCEPTED is shop.try_code(shop.counted(10), "bob")


def test_what_nobody_knows_is_spent(shop: Shop, make_store: MakeStore) -> None:
    """Without the old store HOTP accounts are disabled, recovery codes void; told."""
    backup = shop.backup()

    there, done = moved(shop, backup, make_store())

    assert (["bob"], ["alice"]) == (done.counters_unknown, done.recovery_void)
    assert Outcome.DISABLED is there.try_code(there.counted(5), "bob")
    with there.store.transaction() as tx:
        assert set() == tx.recovery_digests(["alice"])


def test_used_recovery_codes_stay_used(
    make_store: MakeStore, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Of the backup's codes those are kept that the replaced store has, too."""
    shop = Shop.opened(make_store(), service_keys, clock)
    codes = shop.fill()
    backup = shop.backup()
    assert Outcome.ACCEPTED is use_recovery(shop, codes[0])

    restored_into(shop, backup, replace_existing=True)

    assert Outcome.WRONG is use_recovery(shop, codes[0])
    assert Outcome.ACCEPTED is use_recovery(shop, codes[1])


def test_new_recovery_codes_void_the_backup_s(
    make_store: MakeStore, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Codes that were replaced after the backup do not come back."""
    shop = Shop.opened(make_store(), service_keys, clock)
    codes = shop.fill()
    backup = shop.backup()
    shop.service.accounts.make_recovery_codes("alice")

    done = restored_into(shop, backup, replace_existing=True)

    assert ["alice"] == done.recovery_void
    assert Outcome.WRONG is use_recovery(shop, codes[1])


def test_what_was_taken_away_stays_away(shop: Shop) -> None:
    """A revoked caller stays revoked, a disabled account disabled."""
    backup = shop.backup()
    (caller,) = shop.service.callers.all()
    shop.service.callers.revoke(caller.id)
    shop.service.accounts.disable("alice")

    done = restored_into(shop, backup, replace_existing=True)

    assert 0 == done.callers
    (caller,) = shop.service.callers.all()
    assert shop.clock() == caller.revoked_at
    assert Outcome.DISABLED is shop.try_code("000000")


def test_a_sequence_is_never_lowered(shop: Shop) -> None:
    """Nor is one that only the replaced store knows; the account is the backup's."""
    backup = shop.backup()
    assert ("uni", 7) == shop.sequence()
    for now, after in (
        (("uni", 9), ("uni", 9)),
        (("uni", 3), ("uni", 7)),
        (("other", 9), ("uni", 9)),
    ):
        shop.put_sequence(*now)
        shop.put_sequence("other", 4, "bob")

        restored_into(shop, backup, replace_existing=True)

        assert after == shop.sequence()
        # Bob's seed of the backup came in no envelope: none may replace it.
        assert ("", 4) == shop.sequence("bob")


def test_an_authority_that_was_removed_stays_removed(shop: Shop) -> None:
    """And one that was pinned since stays pinned: the store's own word stands."""
    backup = shop.backup()
    book = shop.book()
    book.remove("uni")
    other = book.add("other", PINNED)

    restored_into(shop, backup, replace_existing=True)

    assert [(other, True)] == [(pin.authority, pin.genuine) for pin in book.all()]
    assert [] == book.put_back()


def test_authorities_come_with_a_backup_into_an_empty_store(
    shop: Shop, make_store: MakeStore
) -> None:
    """Believed there, too; and what was accepted stays accepted."""
    there, _ = moved(shop, shop.backup(), make_store())

    assert [("uni", True)] == [
        (pin.authority.name, pin.genuine) for pin in there.book().all()
    ]
    assert ("uni", 7) == there.sequence()
    with there.store.transaction() as tx:
        assert not tx.remember_envelope("uni", "seen", 0.0)


def test_the_throttle_is_not_reset(shop: Shop) -> None:
    """Wrong codes after the backup count on after a restore."""
    backup = shop.backup()
    for _ in range(5):
        shop.try_code("000000")
    assert Outcome.THROTTLED is shop.try_code("000000")

    restored_into(shop, backup, replace_existing=True)

    assert Outcome.THROTTLED is shop.try_code("000000")


def test_a_seed_that_goes_is_remembered(shop: Shop) -> None:
    """An account made after the backup goes; its seed brought back finds its steps."""
    backup = shop.backup()
    seed = Secret(b"e" * 20)
    shop.service.accounts.bring(NewAccount("eve", COUNTS), seed)
    assert Outcome.ACCEPTED is shop.try_code(totp.hotp(seed.reveal(), 3), "eve")

    restored_into(shop, backup, replace_existing=True)

    assert shop.service.account("eve") is None
    shop.service.accounts.bring(NewAccount("eve", COUNTS), seed)
    assert Outcome.REPLAYED is shop.try_code(totp.hotp(seed.reveal(), 3), "eve")


def test_a_seed_deleted_after_the_backup(shop: Shop) -> None:
    """A deleted HOTP account comes back with what its tombstone knows."""
    assert Outcome.ACCEPTED is shop.try_code(shop.counted(5), "bob")
    backup = shop.backup()
    assert Outcome.ACCEPTED is shop.try_code(shop.counted(8), "bob")
    shop.service.accounts.delete("bob")

    done = restored_into(shop, backup, replace_existing=True)

    assert [] == done.counters_unknown
    assert Outcome.REPLAYED is shop.try_code(shop.counted(8), "bob")


def test_events_since_are_kept(shop: Shop) -> None:
    """The audit log is not set back."""
    backup = shop.backup()
    shop.service.accounts.disable("alice")

    restored_into(shop, backup, replace_existing=True)

    log = AuditLog(shop.store, shop.service.storage_key, shop.clock).newest(100)
    kinds = [record.row.kind for record in log]
    assert kinds[-3:] == ["backup.written", "account.disabled", "backup.restored"]
    assert len(kinds) == len({record.row.id for record in log})


def test_the_time_mark_is_not_lowered(shop: Shop) -> None:
    """The greater of both marks stays, and a clock that is behind it is told."""
    with shop.store.transaction() as tx:
        tx.set_mark("clock-ms", round((shop.clock() + 100) * 1000))
    backup = shop.backup()
    with shop.store.transaction() as tx:
        tx.set_mark("clock-ms", round((shop.clock() + 50) * 1000))

    done = restored_into(shop, backup, replace_existing=True)

    assert done.clock_behind
    with shop.store.transaction() as tx:
        assert round((shop.clock() + 100) * 1000) == tx.mark("clock-ms")


def test_a_row_that_was_damaged_before_is_carried_along(disk_shop: Shop) -> None:
    """One unreadable seed is told, and does not make all backups worthless."""
    with disk_shop.store.transaction() as tx:
        row = tx.accounts(["bob"])["bob"]
        tx.put_account(replace(row, sealed_seed=row.sealed_seed[:-1] + b"?"))
    stream = io.BytesIO()

    written = disk_shop.archivist().write(stream)
    done = restored_into(disk_shop, stream.getvalue(), replace_existing=True)

    assert ["bob"] == written.unreadable == done.unreadable


# What is refused, and leaves everything as it was.


def refused(shop: Shop, backup: bytes, **options: Any) -> str:  # noqa: ANN401
    """Return why a restore is refused; checks that the store is untouched."""
    before = tables(shop)
    with pytest.raises(OtpsealError) as caught:
        restored_into(shop, backup, **{"replace_existing": True, **options})
    assert before == tables(shop)
    return str(caught.value)


def test_a_store_with_content_is_not_replaced_unasked(shop: Shop) -> None:
    """`--replace` is an administrator's decision."""
    assert "--replace" in refused(shop, shop.backup(), replace_existing=False)


def test_a_store_of_another_storage_key_is_not_replaced(
    shop: Shop, make_store: MakeStore
) -> None:
    """A service that runs on it holds the other key in memory."""
    other = Shop.opened(make_store(), shop.keys, shop.clock)
    other.fill()

    assert "another storage key" in refused(other, shop.backup())


def test_another_private_key_is_named(
    disk_shop: Shop, other_keys: RsaKeys, tmp_path: Path
) -> None:
    """A backup of another key's store says whose it is."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    other = Shop.opened(make_sqlite(elsewhere), other_keys, disk_shop.clock)

    assert other_keys.kid in refused(disk_shop, other.backup())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "9999"}, "newer otpseal"),
        ({"schema": "0001"}, "then upgrade"),
        ({"otpseal-backup": 2}, "form 2"),
    ],
)
def test_other_versions_are_named(
    disk_shop: Shop, change: dict[str, object], words: str
) -> None:
    """What this program cannot read is refused in words that say what to do."""
    head, _, rest = disk_shop.backup().partition(b"\n")
    altered = json.dumps({**json.loads(head), **change}).encode()

    assert words in refused(disk_shop, altered + b"\n" + rest)


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"{}\n", b"\xff" * 99])
def test_what_is_no_backup(disk_shop: Shop, content: bytes) -> None:
    """Anything else is refused, and said to be no backup."""
    assert "not a backup" in refused(disk_shop, content)


def test_every_cut_is_refused(disk_shop: Shop) -> None:
    """A backup that ends early, after any of its lines, is refused."""
    lines = disk_shop.backup().splitlines(keepends=True)

    for count in range(1, len(lines)):
        assert refused(disk_shop, b"".join(lines[:count]))
    assert refused(disk_shop, b"".join(lines)[:-1])
    assert refused(disk_shop, b"".join([*lines, b"\n"]))
    assert refused(disk_shop, b"".join([*lines[:3], *lines[4:]]))


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_altered_byte_is_refused(
    disk_shop: Shop, one_backup: bytes, data: st.DataObject
) -> None:
    """Whatever byte is another: nothing is restored."""
    backup = bytearray(one_backup)
    # The header has as many chances as all the rows.
    ends = (len(backup), backup.index(b"\n") + 1)
    place = data.draw(st.one_of(*(st.integers(0, end - 1) for end in ends)))
    backup[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(OtpsealError):
        restored_into(disk_shop, bytes(backup), replace_existing=True)


def test_the_mac_is_looked_at_by_itself(disk_shop: Shop) -> None:
    """A change that every other check would let through is refused by the MAC."""
    backup = disk_shop.backup().replace(b'"last_step":4', b'"last_step":3', 1)
    assert backup != disk_shop.backup()

    assert "altered" in refused(disk_shop, backup)


def test_nothing_is_parsed_that_is_not_vouched_for(disk_shop: Shop) -> None:
    """A row that is no JSON is an alteration first: the MAC is looked at before."""
    lines = disk_shop.backup().splitlines(keepends=True)
    lines[1] = b"x" + lines[1][1:]

    assert "altered" in refused(disk_shop, b"".join(lines))


def test_no_secret_is_in_a_backup(disk_shop: Shop) -> None:
    """Seeds and recovery codes stand in it in no form."""
    codes = disk_shop.service.accounts.make_recovery_codes("alice")

    text = disk_shop.backup()

    for seed in (ALICE.reveal(), BOB.reveal()):
        for form in (
            seed,
            seed.hex().encode(),
            base64.b32encode(seed).rstrip(b"="),
            base64.b64encode(seed).rstrip(b"="),
            base64.b64encode(seed[1:]).rstrip(b"="),
            base64.b64encode(seed[2:]).rstrip(b"="),
        ):
            assert form.lower() not in text.lower()
    for code in codes:
        assert code.encode() not in text
        assert code.replace("-", "").encode() not in text


# While it runs, and when it ends badly.


def test_verification_goes_on_and_nothing_acknowledged_is_missing(
    make_store: MakeStore, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """What was accepted before the backup began is in it, and refused afterwards."""
    shop = Shop.opened(make_store(), service_keys, clock)
    shop.fill()
    accepted: list[int] = []
    ended = threading.Event()

    def count() -> None:
        for counter in range(5, 400):
            if ended.is_set():
                return
            assert Outcome.ACCEPTED is shop.try_code(shop.counted(counter), "bob")
            accepted.append(counter)

    writer = threading.Thread(target=count)
    writer.start()
    backups = []
    try:
        for _ in range(4):
            seen = len(accepted)
            while len(accepted) < seen + 5 and writer.is_alive():
                pass
            known = accepted[-1]
            backups.append((known, shop.backup()))
    finally:
        ended.set()
        writer.join()

    for known, backup in backups:
        rows = [json.loads(line).get("row", {}) for line in backup.splitlines()]
        (bob,) = [row for row in rows if row.get("id") == "bob"]
        events = [row for row in rows if row.get("kind") == "attempt.accepted"]
        assert known <= bob["last_step"]
        # One instant: the event of each acceptance, and of no other.
        assert bob["last_step"] == json.loads(events[-1]["detail"])["step"]
    there, _ = moved(shop, backups[-1][1], make_store(), unused_since=True)
    assert Outcome.ACCEPTED is not there.try_code(there.counted(backups[-1][0]), "bob")


_KILLED = """
import io, os, signal, sys
from otpseal.adapters import sql_backup
from otpseal.config import Settings
from otpseal.wiring_admin import make_restorer
from pathlib import Path
insert = sql_backup.SqlPlace.insert
def insert_and_die(self, table, rows):
    insert(self, table, rows)
    if table == "callers":
        os.kill(os.getpid(), signal.SIGKILL)
sql_backup.SqlPlace.insert = insert_and_die
settings = Settings(data_dir=Path(sys.argv[1]), key_file=Path(sys.argv[2]))
with open(sys.argv[3], "rb") as file:
    make_restorer(settings).restore(file, replace_existing=True)
"""


def test_a_killed_restore_leaves_the_old_store(
    disk_shop: Shop, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """SIGKILL in the middle: what was there is there."""
    key_file = tmp_path / "key.pem"
    write_key_pair(service_keys._private_key, key_file)
    (file := tmp_path / "backup").write_bytes(disk_shop.backup())
    disk_shop.service.accounts.delete("bob")
    before = tables(disk_shop)

    done = subprocess.run(
        [sys.executable, "-c", _KILLED, tmp_path, key_file, file],
        env={**os.environ},
        check=False,
        timeout=60,
    )

    assert -signal.SIGKILL == done.returncode
    assert before == tables(disk_shop)
    assert disk_shop.service.account("bob") is None


def test_a_full_disk_makes_no_backup(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """No room for the copy: refused in clear words, and no file is left."""
    (place := tmp_path / "small").mkdir()
    with tmpfs(place):
        shop = Shop.opened(make_sqlite(place), service_keys, clock)
        shop.fill()
        size = (place / "otpseal.db").stat().st_size
        free = shutil.disk_usage(place).free
        (place / "filler").write_bytes(b"\0" * (free - size - 4096))
        before = set(place.iterdir())

        with pytest.raises(StoreUnavailable, match="no room"):
            shop.backup()

        assert before == set(place.iterdir())
        shop.store.close()


def test_the_copy_has_no_name(disk_shop: Shop, tmp_path: Path) -> None:
    """While a backup is written nothing more than the store is in its directory."""
    before = set(tmp_path.iterdir())
    seen: list[set[Path]] = []

    class Watching(io.BytesIO):
        def write(self, content: object, /) -> int:
            seen.append(set(tmp_path.iterdir()))
            return super().write(content)  # type: ignore[arg-type]

    disk_shop.archivist().write(Watching())

    assert seen
    assert all(names <= before for names in seen)


def test_without_its_event_there_is_no_backup(
    disk_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the audit event cannot be stored, what was written is refused."""

    class Failing(io.BytesIO):
        def write(self, content: object, /) -> int:
            if not self.getvalue():
                monkeypatch.setattr(disk_shop.store, "transaction", unavailable)
            return super().write(content)  # type: ignore[arg-type]

    def unavailable(**_options: object) -> None:
        raise StoreUnavailable("gone")

    stream = Failing()
    with pytest.raises(StoreUnavailable, match="gone"):
        disk_shop.archivist().write(stream)
    monkeypatch.undo()

    assert "cut off" in refused(disk_shop, stream.getvalue())


def test_an_empty_store_has_no_backup(tmp_path: Path, disk_shop: Shop) -> None:
    """A backup of nothing is refused rather than written."""
    (place := tmp_path / "empty").mkdir()
    empty = Shop.opened(make_sqlite(place), disk_shop.keys, disk_shop.clock)
    with empty.store.transaction() as tx:
        tx.connection.execute(text("DELETE FROM storage_keys"))

    with pytest.raises(BackupRefused, match="empty"):
        empty.backup()
