"""otpseal.key_ring: which keys open what arrives, in a service that runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from conftest import TurnedClock
from keys_fixture import DAY_S, lay_ready, lifecycle, opened_at, sealed_seed

from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.config import Settings
from otpseal.errors import (
    KeyUnavailable,
    StoreMismatch,
    StoreUnavailable,
    UnsealFailed,
)
from otpseal.key_records import ImportKeyRow, KeyLives, KeyState
from otpseal.key_ring import MISSING_S, REFRESH_S, KeyRing
from otpseal.padding import oaep_encrypt
from otpseal.ports import Keys, Store
from otpseal.wiring import OpenedService

_TEXT = b"a content key"


@dataclass
class Shop:
    """A service that runs on, and another process that rotates."""

    running: OpenedService
    settings: Settings
    clock: TurnedClock
    old: RsaKeys
    new: RsaKeys

    @property
    def ring(self) -> KeyRing:
        """The running service's."""
        assert self.running.key_ring is not None
        return self.running.key_ring

    def rotate(self, overlap_s: float = DAY_S) -> None:
        """Rotate in another process's place; the running one may look again."""
        with opened_at(self.settings, self.clock) as opened:
            lifecycle(opened, self.settings, self.clock).rotate(overlap_s=overlap_s)
        self.clock.turn(REFRESH_S)

    def opened_by_kid(self) -> list[bool]:
        """Tell for old and new whether an envelope that names it is opened."""
        return [self._opens(keys) for keys in (self.old, self.new)]

    def opened_classic(self) -> list[bool]:
        """Tell for old and new whether the classic form is opened."""
        return [self._opens_classic(keys) for keys in (self.old, self.new)]

    def _opens(self, keys: RsaKeys) -> bool:
        unwrap = self.ring.unwrap(keys.kid)
        if unwrap is None:
            return False
        assert _TEXT == unwrap(oaep_encrypt(keys.public_key, _TEXT))
        return True

    def _opens_classic(self, keys: RsaKeys) -> bool:
        try:
            opened = self.ring.oaep_decrypt(oaep_encrypt(keys.public_key, _TEXT))
        except UnsealFailed:
            return False
        return opened == _TEXT

    def kinds(self) -> list[str]:
        """Return the kinds of all events."""
        with self.running.store.transaction() as tx:
            return [event.kind for event in tx.newest_events(100)]


@pytest.fixture
def shop(
    settings: Settings,
    clock: TurnedClock,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> Iterator[Shop]:
    """A running service; the next key lies ready."""
    with opened_at(settings, clock) as running:
        lay_ready(settings, other_keys)
        yield Shop(running, settings, clock, service_keys, other_keys)


def test_before_a_rotation(shop: Shop) -> None:
    """Only the active key opens; one that lies ready unpublished does not."""
    assert [True, False] == shop.opened_by_kid()
    assert [True, False] == shop.opened_classic()


def test_a_published_next_key_opens_by_its_kid(shop: Shop) -> None:
    """Authorities may seal to it at once; the classic form names no key, and can't."""
    lifecycle(shop.running, shop.settings, shop.clock).prepare()
    shop.clock.turn(REFRESH_S)

    assert [True, True] == shop.opened_by_kid()
    assert [True, False] == shop.opened_classic()
    assert [(shop.old.kid, "active"), (shop.new.kid, "next")] == [
        (key.kid, key.state) for key in shop.ring.published()
    ]


def test_in_the_overlap(shop: Shop) -> None:
    """Both open in a service that was started before, in both forms."""
    shop.opened_by_kid()

    shop.rotate()

    assert [True, True] == shop.opened_by_kid()
    assert [True, True] == shop.opened_classic()
    assert shop.new.kid == shop.ring.kid == shop.running.keys.kid
    assert [shop.new.kid] == [key.kid for key in shop.ring.published()]


def test_after_the_overlap(shop: Shop) -> None:
    """The retired key opens nothing, to the second; who asks for it is counted."""
    shop.rotate()
    shop.clock.turn(DAY_S - REFRESH_S - 0.001)
    assert [True, True] == shop.opened_by_kid()

    shop.clock.turn(0.001)

    assert [False, True] == shop.opened_by_kid()
    assert [False, True] == shop.opened_classic()
    assert "import-key.refused" == shop.kinds()[-1]


def test_a_record_that_is_put_back_brings_no_key_back(shop: Shop) -> None:
    """Who writes the database has the old record; a service that runs knows better."""
    with shop.running.store.transaction() as tx:
        record = tx.storage_key_record()
    assert record is not None
    shop.rotate(overlap_s=0)
    assert [False, True] == shop.opened_by_kid()

    with shop.running.store.transaction() as tx:
        tx.replace_storage_key_record(record)
    shop.clock.turn(REFRESH_S)

    for ask in (shop.opened_by_kid, shop.opened_classic, shop.ring.published):
        with pytest.raises(StoreMismatch, match="older state"):
            ask()
    assert shop.new.kid == shop.ring.kid


def test_two_rotations(shop: Shop, settings: Settings) -> None:
    """Of two keys that retire, each has its own end."""
    shop.rotate(overlap_s=DAY_S)
    with opened_at(settings, shop.clock) as opened:
        third = RsaKeys(generate_private_key(3072))
        lay_ready(settings, third)
        lifecycle(opened, settings, shop.clock).rotate(overlap_s=10 * DAY_S)
    shop.clock.turn(DAY_S)

    assert [False, True] == shop.opened_by_kid()
    assert [False, True] == shop.opened_classic()
    assert third.kid == shop.ring.kid


def test_a_row_that_is_put_back_revives_nothing(shop: Shop) -> None:
    """Whoever writes the database, with copies of every row that ever was."""
    lifecycle(shop.running, shop.settings, shop.clock).prepare()
    with shop.running.store.transaction() as tx:
        copies = tx.import_keys()
    shop.rotate(overlap_s=1)
    with shop.running.store.transaction() as tx:
        copies += tx.import_keys()
    shop.clock.turn(DAY_S)
    (row,) = [row for row in copies if row.kid == shop.old.kid]
    forged = [
        row,
        replace(row, until=shop.clock() + DAY_S),
        replace(row, state=KeyState.NEXT, until=None),
        replace(row, state=KeyState.ACTIVE, until=None),
        *[replace(copy, kid=row.kid, public=row.public) for copy in copies],
    ]

    for one in forged:
        with shop.running.store.transaction() as tx:
            tx.put_import_key(one)
        shop.clock.turn(REFRESH_S)
        assert [False, True] == shop.opened_by_kid()
        assert [False, True] == shop.opened_classic()


class _Counting:
    """A store that counts its transactions, and can be out of order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.count = 0
        self.is_down = False

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[object]:
        """Open one."""
        self.count += 1
        if self.is_down:
            raise StoreUnavailable("down")
        with self._store.transaction(patience_s=patience_s, shared=shared) as tx:
            yield tx

    def close(self) -> None:
        """Do nothing."""


def _ring_over(shop: Shop, store: object, load: object) -> KeyRing:
    return KeyRing(
        shop.old,
        store=store,  # type: ignore[arg-type]
        storage_key=shop.running.storage_key,
        load=load,  # type: ignore[arg-type]
        clock=shop.clock,
        monotonic=shop.clock,
    )


def test_strangers_do_not_make_it_read(shop: Shop) -> None:
    """However many kids are made up: the store is asked once a second."""
    store = _Counting(shop.running.store)
    ring = _ring_over(shop, store, lambda _kid: None)

    found = [ring.unwrap(f"made-up-{number}") for number in range(100)]
    shop.clock.turn(REFRESH_S)
    ring.unwrap("made-up")

    assert 100 * [None] == found
    assert 2 == store.count


def test_a_store_that_cannot_be_asked(shop: Shop) -> None:
    """Then nothing opens: a key might have been retired meanwhile."""
    store = _Counting(shop.running.store)
    ring = _ring_over(shop, store, lambda _kid: None)
    store.is_down = True

    with pytest.raises(StoreUnavailable):
        ring.unwrap(shop.old.kid)
    with pytest.raises(StoreUnavailable):
        ring.oaep_decrypt(oaep_encrypt(shop.old.public_key, _TEXT))


def test_a_file_that_comes_later(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A replica without the new key serves on, says so, and finds it when it comes."""
    here: dict[str, Keys] = {}
    ring = _ring_over(shop, shop.running.store, here.get)
    shop.rotate()
    assert ring.unwrap(shop.new.kid) is None
    assert ring.unwrap(shop.old.kid) is not None
    assert shop.new.kid in caplog.text
    here[shop.new.kid] = shop.new

    shop.clock.turn(MISSING_S)

    assert ring.unwrap(shop.new.kid) is not None
    assert shop.new.kid == ring.kid or ring.unwrap(shop.new.kid) is not None


def test_a_file_that_cannot_be_read(shop: Shop) -> None:
    """Nothing breaks but what needs that key."""

    def load(_kid: str) -> Keys | None:
        raise KeyUnavailable("open to group or others")

    ring = _ring_over(shop, shop.running.store, load)
    shop.rotate()

    assert ring.unwrap(shop.new.kid) is None
    assert ring.unwrap(shop.old.kid) is not None


def test_the_service_opens_by_the_ring(shop: Shop) -> None:
    """A sealed seed for the new key comes in without a restart."""
    shop.running.service.import_sealed(sealed_seed(shop.old, 1), account="a")

    shop.rotate(overlap_s=0)

    shop.running.service.import_sealed(sealed_seed(shop.new, 2), account="b")
    with pytest.raises(UnsealFailed):
        shop.running.service.import_sealed(sealed_seed(shop.old, 3), account="c")


class _Used:
    """A key that counts how often it was tried."""

    def __init__(self, keys: RsaKeys) -> None:
        self.kid = keys.kid
        self.public_key = keys.public_key
        self.pss_sign = keys.pss_sign
        self._keys = keys
        self.count = 0

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """Decrypt, and count."""
        self.count += 1
        return self._keys.oaep_decrypt(ciphertext, label=label)


def test_every_key_of_an_overlap_is_tried(shop: Shop) -> None:
    """Whichever opens the classic form, or none: the work is the same."""
    used = {keys.kid: _Used(keys) for keys in (shop.old, shop.new)}
    ring = _ring_over(shop, shop.running.store, used.get)
    ring._loaded.clear()
    shop.rotate()
    texts = [oaep_encrypt(keys.public_key, _TEXT) for keys in (shop.old, shop.new)]

    for number, text in enumerate([*texts, bytes(512)], start=1):
        try:
            ring.oaep_decrypt(text)
        except UnsealFailed:
            assert number == 3
        assert [number, number] == [key.count for key in used.values()]


def test_a_row_of_before_a_rotation_is_none_any_more(
    shop: Shop, settings: Settings
) -> None:
    """A genuine row that said `next` does not revive its key when that is retired."""
    lifecycle(shop.running, settings, shop.clock).prepare()
    with shop.running.store.transaction() as tx:
        (copy,) = tx.import_keys()
    shop.rotate(overlap_s=0)
    lay_ready(settings, RsaKeys(generate_private_key(3072)))
    shop.rotate(overlap_s=0)
    assert [False, False] == shop.opened_by_kid()

    with shop.running.store.transaction() as tx:
        tx.put_import_key(copy)
    shop.clock.turn(REFRESH_S)

    assert (shop.new.kid, KeyState.NEXT) == (copy.kid, copy.state)
    assert [False, False] == shop.opened_by_kid()


def test_the_record_alone_says_which_key_is_active() -> None:
    """Another row that says `active` is of a key that had its time."""
    rows = {"x": ImportKeyRow("x", KeyState.ACTIVE, "{}", 1.0)}

    lives = KeyLives("y", rows)

    assert KeyState.RETIRED is lives.state_of("x", 2.0)
    assert KeyState.ACTIVE is lives.state_of("y", 2.0)
    assert lives.state_of("z", 2.0) is None
