"""`otpseal.trust_book`: authorities are pinned, listed, removed, and not planted."""

import json
from dataclasses import replace

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from otpseal import public_jwk
from otpseal.adapters.sql_store import SqlTransaction
from otpseal.audit import Kind
from otpseal.errors import PinForged, PinMissing, PinRefused
from otpseal.ports import Store
from otpseal.ports_trust import PinnedRow
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey
from otpseal.trust import PinnedAuthority
from otpseal.trust_book import (
    MAX_AUTHORITIES,
    TrustBook,
    is_genuine,
    pinned_authorities,
    pinned_row,
)
from otpseal.trust_material import read_file

KEY = StorageKey(Secret(bytes(range(32))))
OTHER = StorageKey(Secret(bytes(32)))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def pem(number: int = 1) -> bytes:
    """Return the public key, in PEM, of one of many signing keys."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def kid(number: int = 1) -> str:
    """Return its thumbprint."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return public_jwk.thumbprint(key.public_key())


@pytest.fixture
def book(store: Store, clock: TurnedClock) -> TrustBook:
    """A book over one store after another."""
    return TrustBook(store, KEY, clock)


def events(store: Store) -> list[tuple[str, object]]:
    """Return the audit events, each as kind and detail."""
    with store.transaction() as tx:
        return [(row.kind, json.loads(row.detail)) for row in tx.newest_events(99)]


def trusted(store: Store) -> list[PinnedAuthority]:
    """Return who is believed."""
    with store.transaction(shared=True) as tx:
        return pinned_authorities(tx, KEY)


def test_an_authority_is_pinned_and_removed(store: Store, book: TrustBook) -> None:
    """It is believed meanwhile, and the audit log says both."""
    made = book.add("uni", pem(), prefix="shop/")

    assert [made] == trusted(store)
    (listed,) = book.all()
    assert (made, 1_800_000_000.0, True) == (
        listed.authority,
        listed.added_at,
        listed.genuine,
    )

    book.remove("uni")

    assert trusted(store) == []
    with pytest.raises(PinMissing):
        book.remove("uni")
    pinned = {"authority": "uni", "prefix": "shop/", "keys": kid(), "replaced": 0}
    assert [
        ("authority.pinned", pinned),
        ("authority.unpinned", {"authority": "uni"}),
    ] == events(store)


def test_a_name_is_replaced_only_if_that_is_said(store: Store, book: TrustBook) -> None:
    """Else nothing changes."""
    first = book.add("uni", pem(1))

    with pytest.raises(PinRefused, match="--replace"):
        book.add("uni", pem(2))
    assert [first] == trusted(store)

    second = book.add("uni", pem(2), replace=True)
    assert [second] == trusted(store)
    assert [0, 1] == [detail["replaced"] for _, detail in events(store)]  # type: ignore[index]


def test_a_key_is_pinned_for_one_authority(store: Store, book: TrustBook) -> None:
    """One could speak for the other; itself it may bring the same key again."""
    book.add("uni", pem())

    with pytest.raises(PinRefused, match="another"):
        book.add("shop", pem())
    book.add("uni", pem(), prefix="x/", replace=True)

    assert ["x/"] == [authority.prefix for authority in trusted(store)]


def test_there_are_so_many_authorities_at_most(store: Store, book: TrustBook) -> None:
    """What is looked through for every envelope does not grow without end."""
    with store.transaction() as tx:
        for number in range(MAX_AUTHORITIES):
            material = read_file(pem(100 + number), now=1.0)
            row = PinnedAuthority(f"a{number}", "", material)
            tx.pin_authority(pinned_row(row, 1.0, KEY))

    with pytest.raises(PinRefused):
        book.add("uni", pem())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "evil"},
        {"prefix": ""},
        {"material": '{"keys":[]}'},
        {"added_at": 2.0},
        {"mac": b""},
        {"mac": bytes(32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_planted_row_is_believed_by_nobody(
    store: Store, book: TrustBook, change: dict[str, object]
) -> None:
    """Nor is anybody else, until it is removed; and it is listed as what it is."""
    book.add("uni", pem(1))
    made = book.add("shop", pem(2), prefix="shop/")
    planted = replace(pinned_row(made, 1.0, KEY), **change)  # type: ignore[arg-type]
    with store.transaction() as tx:
        tx.pin_authority(planted)

    with pytest.raises(PinForged):
        trusted(store)
    for _ in range(2):
        with pytest.raises(PinForged):
            book.add("third", pem(3))
    with store.transaction() as tx:
        told = tx.newest_events(9, kind="authority.pin-forged")
        pending = tx.tally(Kind.PIN_FORGED, "").pending
    assert (['{"count":1}'], 1) == ([row.detail for row in told], pending)
    assert {planted.name} == {
        pin.authority.name for pin in book.all() if not pin.genuine
    }

    book.remove(planted.name)
    assert "uni" in {authority.name for authority in trusted(store)}


def test_a_row_of_another_storage_key_is_not_believed() -> None:
    """The MAC is under a subkey of this store's own key."""
    row = pinned_row(PinnedAuthority("uni", "", "{}"), 1.0, KEY)

    assert is_genuine(row, KEY)
    assert not is_genuine(row, OTHER)


@given(
    name=TEXT,
    prefix=TEXT,
    material=TEXT,
    at=st.floats(allow_nan=False),
    other=st.tuples(TEXT, TEXT, TEXT, st.floats(allow_nan=False)),
)
def test_a_mac_is_for_one_row(
    name: str,
    prefix: str,
    material: str,
    at: float,
    other: tuple[str, str, str, float],
) -> None:
    """No bytes wander from one field into the next."""
    row = pinned_row(PinnedAuthority(name, prefix, material), at, KEY)
    moved = PinnedRow(*other, row.mac)
    shifted = PinnedRow(name + prefix, "", material, at, row.mac)

    assert is_genuine(row, KEY)
    assert is_genuine(moved, KEY) == (moved == row)
    assert is_genuine(shifted, KEY) == (prefix == "")


@pytest.mark.parametrize("change", ["name = x'00'", "added_at = 'x'", "mac = 'x'"])
def test_columns_of_another_type_are_not_believed(store: Store, change: str) -> None:
    """SQLite keeps in a column what it is told to; that breaks nothing."""
    with store.transaction() as tx:
        if not isinstance(tx, SqlTransaction) or tx.connection.dialect.name != "sqlite":
            pytest.skip("only SQLite does that")
        tx.pin_authority(pinned_row(PinnedAuthority("uni", "", "{}"), 1.0, KEY))

        tx.connection.exec_driver_sql(f"UPDATE pinned_authorities SET {change}")

        with pytest.raises(PinForged):
            pinned_authorities(tx, KEY)


def test_removing_a_row_of_any_name_tells_no_planted_text(
    store: Store, book: TrustBook
) -> None:
    """What somebody wrote into the database does not come into the audit log."""
    row = pinned_row(PinnedAuthority("PWNED\n", "", "{}"), 1.0, OTHER)
    with store.transaction() as tx:
        tx.pin_authority(row)

    book.remove("PWNED\n")

    assert [("authority.unpinned", {"authority": ""})] == events(store)
