"""The authority's use cases over a real store."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from authority_fixtures import (
    REPOSITORY,
    STUDENT,
    authority_over,
    opened_by,
    pem_of,
)
from conftest import TurnedClock
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from otpseal import keypolicy
from otpseal.adapters.file_keys import RsaKeys
from otpseal.audit import Kind
from otpseal.authority import MAX_NAME_BYTES, Authority, pair_id
from otpseal.errors import (
    BindingConflict,
    CapacityReached,
    KeyRefused,
    RequestRefused,
    SeedUnreadable,
    StoreMismatch,
    StoreUnavailable,
)


@pytest.fixture
def authority(
    tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Authority]:
    """An authority over an empty store, with room for 100 pairs."""
    with authority_over(tmp_path, other_keys, clock) as opened:
        yield opened


def events(authority: Authority) -> list[tuple[str, str]]:
    """Return kind and detail of every audit event."""
    with authority.store.transaction() as tx:
        return [(row.kind, row.detail) for row in tx.newest_events(1000)]


def in_database(directory: Path, statement: str, *values: object) -> None:
    """Do what a thief with write access to the database can do."""
    with closing(sqlite3.connect(directory / "otpseal.db")) as connection, connection:
        connection.execute(statement, values)


def test_issues_a_seed_that_the_private_key_opens(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """A first request gives 684 characters that open to 32 bytes; it is recorded."""
    sealed = authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    assert len(sealed) == 684
    assert len(opened_by(service_keys, sealed)) == 32
    pair = pair_id(STUDENT, REPOSITORY).hex()
    assert events(authority) == [
        (
            "authority.seed-issued",
            f'{{"kid":"{service_keys.kid}","pair":"{pair}"}}',
        )
    ]


def test_the_same_request_gives_the_same_seed(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """Asking again gives the same seed in another envelope."""
    first = authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    again = authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    assert opened_by(service_keys, first) == opened_by(service_keys, again)
    assert first != again


def test_the_seed_survives_a_restart(
    tmp_path: Path, other_keys: RsaKeys, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """An authority opened anew over the store gives the same seed."""
    seeds = []
    for _ in range(2):
        with authority_over(tmp_path, other_keys, clock) as authority:
            sealed = authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))
        seeds.append(opened_by(service_keys, sealed))

    assert seeds[0] == seeds[1]


def test_a_key_is_the_same_in_every_form_of_its_pem(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """CRLF, a BOM and a missing last newline do not make another key."""
    pem = pem_of(service_keys)
    first = authority.issue(STUDENT, REPOSITORY, pem)
    for form in (
        pem.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + pem,
        pem.rstrip(b"\n"),
    ):
        again = authority.issue(STUDENT, REPOSITORY, form)

        assert opened_by(service_keys, first) == opened_by(service_keys, again)


def test_another_key_is_refused_and_counted(
    authority: Authority, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """A bound pair's seed is not sealed to a stranger; the refusal names the way out.

    The refusal is in the audit log although the request failed.
    """
    authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    with pytest.raises(BindingConflict, match="otpseal authority rebind"):
        authority.issue(STUDENT, REPOSITORY, pem_of(other_keys))

    assert events(authority)[-1] == (Kind.REQUEST_REFUSED.value, '{"count":1}')


@pytest.mark.parametrize(
    ("student_id", "repository"),
    [
        (STUDENT.lower(), REPOSITORY),
        (STUDENT + " ", REPOSITORY),
        (STUDENT, REPOSITORY + "/"),
        (STUDENT, REPOSITORY + ".git"),
        (STUDENT, REPOSITORY.replace("someone", "Someone")),
    ],
)
def test_pairs_are_compared_byte_for_byte(
    authority: Authority, service_keys: RsaKeys, student_id: str, repository: str
) -> None:
    """Another case, white space, a slash at the end: each is another pair."""
    pem = pem_of(service_keys)
    sealed = authority.issue(STUDENT, REPOSITORY, pem)

    other = authority.issue(student_id, repository, pem)

    assert opened_by(service_keys, sealed) != opened_by(service_keys, other)


def test_the_two_forms_of_one_name_are_two_pairs() -> None:
    """Unicode's composed and decomposed forms are different bytes."""
    assert pair_id("Zo\u00eb", REPOSITORY) != pair_id("Zoe\u0308", REPOSITORY)


@given(
    text=st.text(alphabet="ab\u00e9/", min_size=3, max_size=12),
    cuts=st.tuples(st.integers(1, 11), st.integers(1, 11)),
)
def test_pair_id_knows_where_the_first_name_ends(
    text: str, cuts: tuple[int, int]
) -> None:
    """One text cut at two places gives two pairs: names are never just joined."""
    one, two = (min(cut, len(text) - 1) for cut in cuts)

    same = pair_id(text[:one], text[one:]) == pair_id(text[:two], text[two:])

    assert same == (one == two)


@given(
    first=st.tuples(st.text("ab", min_size=1, max_size=3), st.text("ab", min_size=1)),
    second=st.tuples(st.text("ab", min_size=1, max_size=3), st.text("ab", min_size=1)),
)
def test_pair_id_is_injective(first: tuple[str, str], second: tuple[str, str]) -> None:
    """Two pairs have one id exactly if they are one pair."""
    assert (pair_id(*first) == pair_id(*second)) == (first == second)


def test_pair_id_keeps_the_names_apart() -> None:
    """Who and what cannot change places."""
    assert pair_id("a", "b") != pair_id("b", "a")


@pytest.mark.parametrize(
    "name", ["", "x" * (MAX_NAME_BYTES + 1), "é" * 513, "nul\0", "\ud800"]
)
def test_names_that_are_no_names_are_refused(
    authority: Authority, service_keys: RsaKeys, name: str
) -> None:
    """Empty, too long in bytes, with NUL or a lone surrogate: refused in both places.

    The message says which field, and repeats nothing of it.
    """
    with pytest.raises(RequestRefused, match=r"^student_id") as first:
        authority.issue(name, REPOSITORY, pem_of(service_keys))
    with pytest.raises(RequestRefused, match=r"^github_repo_url"):
        authority.issue(STUDENT, name, pem_of(service_keys))

    assert "xxx" not in str(first.value)


def test_the_longest_name_is_accepted(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """A name of exactly the limit is a name."""
    sealed = authority.issue("x" * MAX_NAME_BYTES, "é" * 512, pem_of(service_keys))

    assert len(sealed) == 684


def spki(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key's PEM, whatever the policy says of it."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_bad_keys_are_refused_and_bind_nothing(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """No PEM, literal backslash-n, a weak, foreign or broken key: nothing is stored."""
    good = service_keys.public_key.public_numbers()
    pem = pem_of(service_keys)
    bad = [
        b"",
        b"no key",
        pem.replace(b"\n", b"\\n"),
        pem[:-60],
        spki(rsa.generate_private_key(65537, 2048).public_key()),
        spki(rsa.RSAPublicNumbers(3, good.n).public_key()),
        spki(rsa.RSAPublicNumbers(65537, good.n + 1).public_key()),
        spki(ec.generate_private_key(ec.SECP256R1()).public_key()),
    ]

    for public_key in bad:
        with pytest.raises(KeyRefused):
            authority.issue(STUDENT, REPOSITORY, public_key)

    with authority.store.transaction() as tx:
        assert tx.issued_count() == 0


def test_a_full_authority_takes_no_new_pair_and_serves_the_old(
    tmp_path: Path, other_keys: RsaKeys, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """At the cap a new pair is refused and counted; a known pair gets its seed."""
    pem = pem_of(service_keys)
    with authority_over(tmp_path, other_keys, clock, max_seeds=2) as authority:
        authority.issue("one", REPOSITORY, pem)
        authority.issue("two", REPOSITORY, pem)

        with pytest.raises(CapacityReached, match="OTPSEAL_AUTHORITY_MAX_SEEDS"):
            authority.issue("three", REPOSITORY, pem)

        assert len(authority.issue("two", REPOSITORY, pem)) == 684
        kinds = [kind for kind, _ in events(authority)]
        assert kinds.count("authority.request-refused") == 1


def test_rebind_moves_the_seed_to_the_new_key(
    authority: Authority, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """After a rebind the new key gets the same seed, the old one nothing; recorded."""
    sealed = authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    kid = authority.rebind(STUDENT, REPOSITORY, pem_of(other_keys))

    assert kid == other_keys.kid
    assert events(authority)[-1][0] == "authority.rebound"
    assert other_keys.kid in events(authority)[-1][1]
    again = authority.issue(STUDENT, REPOSITORY, pem_of(other_keys))
    assert opened_by(service_keys, sealed) == opened_by(other_keys, again)
    with pytest.raises(BindingConflict):
        authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))


def test_rebind_knows_only_pairs_that_have_a_seed(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """Rebinding makes no seed: an unknown pair is refused and nothing is recorded."""
    with pytest.raises(RequestRefused, match="byte for byte"):
        authority.rebind(STUDENT, REPOSITORY, pem_of(service_keys))

    assert events(authority) == []


def test_rebind_takes_no_weak_key(authority: Authority, service_keys: RsaKeys) -> None:
    """The key policy holds for an administrator too; the old binding stays."""
    authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))
    weak = spki(rsa.generate_private_key(65537, 2048).public_key())

    with pytest.raises(KeyRefused, match="2048"):
        authority.rebind(STUDENT, REPOSITORY, weak)

    assert len(authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))) == 684


def test_no_seed_rests_in_the_clear(
    tmp_path: Path, authority: Authority, service_keys: RsaKeys
) -> None:
    """Neither the seed's bytes nor its hex are in any file of the store."""
    sealed = authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))
    seed = opened_by(service_keys, sealed)

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("otpseal.db*"))

    assert STUDENT.encode() in stored  # it is the right file
    assert seed not in stored
    assert seed.hex().encode() not in stored.lower()


def test_who_writes_the_database_cannot_bind_a_pair_to_himself(
    tmp_path: Path, authority: Authority, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """A seed rests bound to its key: with another kid in the row it does not open."""
    authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    in_database(tmp_path, "UPDATE issued_seeds SET kid = ?", other_keys.kid)

    with pytest.raises(SeedUnreadable):
        authority.issue(STUDENT, REPOSITORY, pem_of(other_keys))
    with pytest.raises(SeedUnreadable):
        authority.rebind(STUDENT, REPOSITORY, pem_of(service_keys))


def test_who_writes_the_database_cannot_move_a_seed(
    tmp_path: Path, authority: Authority, service_keys: RsaKeys
) -> None:
    """A seed rests bound to its pair: in another pair's row it does not open."""
    pem = pem_of(service_keys)
    authority.issue(STUDENT, REPOSITORY, pem)
    authority.issue("thief", REPOSITORY, pem)

    in_database(
        tmp_path,
        "UPDATE issued_seeds SET sealed_seed = (SELECT sealed_seed FROM issued_seeds"
        " WHERE student_id = ?) WHERE student_id = 'thief'",
        STUDENT,
    )

    with pytest.raises(SeedUnreadable):
        authority.issue("thief", REPOSITORY, pem)


def test_repeated_requests_do_not_fill_the_audit_log(
    authority: Authority, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Reissues are one event at once and one with a count a minute later.

    However many pairs a stranger made: he could make as many as he likes.
    """
    pem = pem_of(service_keys)
    for student in ("one", "two", "three"):
        authority.issue(student, REPOSITORY, pem)
    for _ in range(4):
        for student in ("one", "two", "three"):
            authority.issue(student, REPOSITORY, pem)
    authority.settle()
    clock.turn(61)

    authority.settle()
    authority.settle()

    told = [detail for kind, detail in events(authority) if kind.endswith("reissued")]
    assert told == ['{"count":1}', '{"count":11}']


def test_one_key_wins_a_race_for_a_new_pair(
    authority: Authority, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """Of first requests at one time, one key gets the seed, the other none, ever."""
    start = threading.Barrier(8)

    def request(keys: RsaKeys) -> bytes | None:
        start.wait(10)
        try:
            sealed = authority.issue(STUDENT, REPOSITORY, pem_of(keys))
        except BindingConflict:
            return None
        return opened_by(keys, sealed)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(request, [service_keys, other_keys] * 4))

    ours, theirs = results[::2], results[1::2]
    winners, losers = (theirs, ours) if ours[0] is None else (ours, theirs)
    assert losers == [None] * 4
    assert None not in winners
    assert len(set(winners)) == 1


def test_a_failing_store_issues_nothing(
    tmp_path: Path, authority: Authority, service_keys: RsaKeys
) -> None:
    """If the audit event cannot be written, no seed is made or handed out."""
    in_database(tmp_path, "ALTER TABLE audit_events RENAME TO gone")

    with pytest.raises(StoreUnavailable):
        authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    with authority.store.transaction() as tx:
        assert tx.issued_count() == 0


def test_check_store_tells_a_store_that_works_from_one_that_was_emptied(
    tmp_path: Path, authority: Authority
) -> None:
    """A working store passes; one without its key record is named."""
    authority.check_store()
    in_database(tmp_path, "DELETE FROM storage_keys")

    with pytest.raises(StoreMismatch, match="emptied"):
        authority.check_store()


def test_the_kid_of_a_binding_is_the_thumbprint(
    authority: Authority, service_keys: RsaKeys
) -> None:
    """A pair is bound to the RFC 7638 thumbprint of the key it came with."""
    authority.issue(STUDENT, REPOSITORY, pem_of(service_keys))

    with authority.store.transaction() as tx:
        issued = tx.issued(pair_id(STUDENT, REPOSITORY))

    assert issued is not None
    assert keypolicy.key_id(service_keys.public_key) == issued.kid
