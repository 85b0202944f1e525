"""Accounts move in and out: the whole file or nothing, and spent stays spent."""

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backup_shop import ALICE, BOB, COUNTS, Shop
from conftest import TurnedClock
from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore
from stores import make_sqlite

from otpseal import totp, travel
from otpseal.account_state import Status
from otpseal.accounts import NewAccount
from otpseal.adapters.file_keys import RsaKeys
from otpseal.audit import Kind
from otpseal.errors import MoveRefused, UnsealFailed
from otpseal.export import Exporter
from otpseal.formats import Format, parse
from otpseal.formats.row import Entry, Fault
from otpseal.ledger import AuditLog
from otpseal.moving import Arrival, Moved, Mover, arrival, open_travellers
from otpseal.ports import Store, Transaction
from otpseal.secret import Secret
from otpseal.seed_keeping import NewSeed
from otpseal.service import Service
from otpseal.storage_key import StorageKey
from otpseal.totp import OtpType, Parameters
from otpseal.verification import Outcome

KEY = StorageKey(Secret(b"k" * 32))


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """One empty store after another."""
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = make_sqlite(tmp_path)
    else:
        made = request.getfixturevalue("database").open_store(reads_clock=False)
    request.addfinalizer(made.close)  # noqa: PT021 - of either kind
    return made


@pytest.fixture
def mover(store: Store, clock: TurnedClock) -> Mover:
    """What makes accounts."""
    return Mover(store, KEY, clock)


def one(line: int, name: str = "", seed: bytes = b"", **changes: object) -> Arrival:
    """Return a row; its seed is of its line unless given."""
    new = NewSeed(name, Secret(seed or bytes([line]) * 20))
    return Arrival(line, replace(new, **changes))  # type: ignore[arg-type]


def reports(moved: Moved) -> list[tuple[int, str | None, str | None]]:
    """Return the rows of a report."""
    return [(row.line, row.account, row.reason) for row in moved.rows]


def kinds(store: Store, clock: TurnedClock) -> list[str]:
    """Return every event; each must be genuine."""
    records = AuditLog(store, KEY, clock).newest(1000)
    assert all(record.genuine for record in records)
    return [record.row.kind for record in records]


def names(store: Store) -> list[str]:
    """Return every account."""
    with store.transaction() as tx:
        return tx.account_ids()


def test_a_file_becomes_accounts(
    mover: Mover, store: Store, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Ids are given or proposed, the prefix put in front; codes work at once."""
    rows = [one(1, "alice", ALICE.reveal()), one(2, issuer="Shop", label="Bob Z")]

    moved = mover.bring(rows, prefix="t/")

    assert moved.stored
    assert reports(moved) == [(1, "t/alice", None), (2, "t/shop/bob-z", None)]
    created = Kind.ACCOUNT_CREATED.value
    assert kinds(store, clock) == [created, created, "accounts.imported"]
    service = Service(store, keys=service_keys, storage_key=KEY, clock=clock)
    code = totp.generate(ALICE, clock()).text
    assert Outcome.ACCEPTED is service.verify(code, "t/alice").outcome


def test_a_dry_run_changes_nothing(
    mover: Mover, store: Store, clock: TurnedClock
) -> None:
    """It reports as the import itself does."""
    rows = [one(1, "alice"), one(2, "bob")]

    dry = mover.bring(rows, dry_run=True)

    assert not dry.stored
    assert [] == names(store) == kinds(store, clock)
    assert reports(dry) == reports(mover.bring(rows))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Fault(9, "not a row"), "not a row"),
        (one(9), "no id"),
        (one(9, "Alice"), "rule for account ids"),
        (one(9, "alice"), "line 1 has the same id"),
        (one(9, "bob", b"\1" * 20), "line 1 has the same seed"),
        (one(9, "there"), "there is an account"),
        (one(9, "bob", b"\x63" * 20), "another account has this seed"),
        (one(9, "bob", b"short"), "16 to 64 bytes"),
        (one(9, "bob", parameters=Parameters(digits=9)), "digits"),
        (one(9, "bob", label="a\nb"), "control character"),
        (one(9, "default", parameters=Parameters(digits=8)), "`default` is TOTP"),
    ],
)
def test_one_bad_row_keeps_the_file_out(
    mover: Mover,
    store: Store,
    clock: TurnedClock,
    bad: Arrival | Fault,
    reason: str,
) -> None:
    """Nothing is stored, and the report names the row and why."""
    mover.bring([one(99, "there", b"\x63" * 20)])
    before = kinds(store, clock)

    moved = mover.bring([one(1, "alice"), bad])

    assert not moved.stored
    (refused,) = moved.refused
    assert 9 == refused.line
    assert reason in (refused.reason or "")
    assert ["there"] == names(store)
    assert before == kinds(store, clock)


def test_somebody_comes_first(store: Store, clock: TurnedClock) -> None:
    """An account that is made while seeds are sealed is not overwritten."""
    inner = Mover(store, KEY, clock)

    class Racing:
        times = 0

        def transaction(self, **options: Any) -> AbstractContextManager[Transaction]:  # noqa: ANN401
            self.times += 1
            if self.times == 2:
                inner.bring([one(1, "alice")])
            return store.transaction(**options)

        def close(self) -> None:
            store.close()

    moved = Mover(Racing(), KEY, clock).bring([one(2, "alice"), one(3, "bob")])

    assert not moved.stored
    assert [2] == [row.line for row in moved.refused]
    assert ["alice"] == names(store)


def test_a_removed_seed_finds_its_steps(
    mover: Mover, store: Store, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """A seed whose account was deleted does not get its codes back by a file."""
    service = Service(store, keys=service_keys, storage_key=KEY, clock=clock)
    mover.bring([one(1, "alice", ALICE.reveal())])
    code = totp.generate(ALICE, clock()).text
    assert Outcome.ACCEPTED is service.verify(code, "alice").outcome
    service.accounts.delete("alice")

    mover.bring([one(1, "again", ALICE.reveal())])

    assert Outcome.REPLAYED is service.verify(code, "again").outcome


def test_what_parsers_give_is_taken() -> None:
    """HOTP counters and the parameters of a file arrive; the window has a default."""
    secret = base64.b32encode(b"h" * 20).decode()
    text = f"otpauth://hotp/S:b?secret={secret}&counter=7&algorithm=SHA256&digits=8"
    (entry,) = parse(text.encode(), Format.OTPAUTH)
    assert isinstance(entry, Entry)

    new = arrival(entry).new

    assert new.parameters == Parameters("SHA256", 8, 30, OtpType.HOTP, 1)
    assert (7, "S", "b", b"h" * 20) == (
        new.counter,
        new.issuer,
        new.label,
        new.seed.reveal(),
    )


# Out, and in elsewhere.


@pytest.fixture
def shop(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[Shop]:
    """A store with something in it."""
    (place := tmp_path / "shop").mkdir()
    made = Shop.opened(make_sqlite(place), service_keys, clock)
    made.fill()
    yield made
    made.store.close()


def sealed(shop: Shop, to: RsaKeys) -> bytes:
    """Return an export of all accounts."""
    exporter = Exporter(shop.store, shop.service.storage_key, shop.clock)
    lines = exporter.sealed(exporter.chosen(()), to.public_key, to.kid)
    return "\n".join(lines).encode()


def test_two_services_exchange_accounts(
    shop: Shop,
    store: Store,
    mover: Mover,
    other_keys: RsaKeys,
    clock: TurnedClock,
) -> None:
    """Seeds, parameters and what was spent arrive; so does what was disabled."""
    assert Outcome.ACCEPTED is shop.try_code(shop.code())
    assert Outcome.ACCEPTED is shop.try_code(shop.counted(8), "bob")
    carol = NewAccount("carol", Parameters("SHA512", 8, 60))
    shop.service.accounts.bring(carol, Secret(b"c" * 64))
    shop.service.accounts.disable("carol")
    content = sealed(shop, other_keys)

    moved = mover.bring(open_travellers(content, other_keys))

    assert moved.stored
    there = Service(store, keys=other_keys, storage_key=KEY, clock=clock)
    assert Outcome.REPLAYED is there.verify(shop.code(), "alice").outcome
    assert Outcome.REPLAYED is there.verify(shop.counted(8), "bob").outcome
    assert Outcome.ACCEPTED is there.verify(shop.counted(9), "bob").outcome
    row = there.account("carol")
    assert row is not None
    assert (carol.parameters, Status.DISABLED) == (row.parameters, row.state.status)
    assert b"c" * 64 == row.open_seed(KEY).reveal()
    alice = there.account("alice")
    assert alice is not None
    assert ("Shop", "Älice") == (alice.issuer, alice.label)


def test_only_the_receiver_opens_it(
    shop: Shop, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """Another key is told so; a line that claims to be for it does not open."""
    content = sealed(shop, other_keys)
    claimed = content.replace(other_keys.kid.encode(), service_keys.kid.encode())

    told = [open_travellers(text, service_keys) for text in (content, claimed)]

    reasons = [{one.reason for one in some if isinstance(one, Fault)} for some in told]
    assert reasons == [
        {"the seed is sealed to another key than this service's"},
        {"the sealed seed does not open"},
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"account": "mallory"},
        {"digits": 8},
        {"period": 60},
        {"algorithm": "SHA512"},
        {"window": 0},
        {"type": "hotp"},
    ],
)
def test_a_seed_is_bound_to_its_account_and_parameters(
    shop: Shop, other_keys: RsaKeys, change: dict[str, object]
) -> None:
    """On the way it becomes neither another account's nor a weaker factor."""
    line = json.loads(sealed(shop, other_keys).splitlines()[0])

    (found,) = open_travellers(json.dumps({**line, **change}).encode(), other_keys)

    assert Fault(1, "the sealed seed does not open") == found


@given(st.binary(max_size=80) | st.dictionaries(st.text(), st.integers() | st.text()))
def test_any_line_is_a_report(content: bytes | dict[str, object]) -> None:
    """Whatever stands in a file, reading it does not fail."""
    line = content if isinstance(content, bytes) else json.dumps(content).encode()

    for _, found in travel.parse(line, "kid"):
        assert isinstance(found, str)


@pytest.mark.parametrize(
    "change",
    [
        {"last_step": -2},
        {"last_step": 2**63},
        {"last_step": True},
        {"last_step": 1.5},
        {"drift": 61},
        {"status": "gone"},
        {"digits": 5},
        {"type": "motp"},
        {"sealed_seed": "?"},
        {"issuer": None},
    ],
)
def test_what_is_out_of_range_is_no_account(
    shop: Shop, other_keys: RsaKeys, change: dict[str, object]
) -> None:
    """Each value of a line is checked."""
    line = json.loads(sealed(shop, other_keys).splitlines()[0])
    text = json.dumps({**line, **change}).encode()

    ((_, found),) = travel.parse(text, other_keys.kid)

    assert "a value is missing, or outside its range" == found


def test_the_form_is_what_the_documents_say(other_keys: RsaKeys) -> None:
    """OAEP with the label, over lp16(id), lp16(parameters) and the seed."""
    box = travel.seal(BOB, "bob", COUNTS, other_keys.public_key)

    plain = other_keys.oaep_decrypt(box, label=b"otpseal export v1")

    assert b"\0\x03bob\0\x10" == plain[:7]
    assert b"hotp,SHA1,6,30,1" + BOB.reveal() == plain[7:]
    with pytest.raises(UnsealFailed):
        other_keys.oaep_decrypt(box)


def test_plaintext_is_audited_first(shop: Shop) -> None:
    """The event is there before the first line is asked for; URIs lead back."""
    exporter = Exporter(shop.store, shop.service.storage_key, shop.clock)

    lines = exporter.plaintext(exporter.chosen(["bob"]))

    log = AuditLog(shop.store, shop.service.storage_key, shop.clock).newest(1)
    assert {"count": 1, "form": "plaintext"} == json.loads(log[0].row.detail)
    (entry,) = parse("\n".join(lines).encode(), Format.OTPAUTH)
    assert isinstance(entry, Entry)
    assert (5, BOB.reveal()) == (entry.counter, entry.seed.reveal())


def test_the_sealed_export_is_audited_by_key(shop: Shop, other_keys: RsaKeys) -> None:
    """How many, and to which key."""
    sealed(shop, other_keys)

    log = AuditLog(shop.store, shop.service.storage_key, shop.clock).newest(1)
    assert "accounts.exported" == log[0].row.kind
    assert {"count": 2, "kid": other_keys.kid} == json.loads(log[0].row.detail)


def test_a_choice_of_nothing_is_refused(shop: Shop) -> None:
    """A misspelt account or prefix makes no empty file."""
    exporter = Exporter(shop.store, shop.service.storage_key, shop.clock)

    assert ["alice"] == exporter.chosen((), prefix="al")
    for ids, prefix in ((["alice", "nobody"], ""), ((), "shop/")):
        with pytest.raises(MoveRefused):
            exporter.chosen(ids, prefix=prefix)
