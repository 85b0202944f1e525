"""A store with something of everything in it, to back up and to restore."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from conftest import TurnedClock

from otpseal import totp
from otpseal.access import Scope
from otpseal.accounts import NewAccount
from otpseal.adapters.file_keys import RsaKeys
from otpseal.adapters.sql_backup import SqlArchive
from otpseal.adapters.sql_store import SqlStore
from otpseal.backup import Archivist
from otpseal.ports_trust import EnvelopeSequence
from otpseal.restore import Restorer
from otpseal.secret import Secret
from otpseal.service import Attempt, Service
from otpseal.storage_key import StorageKey
from otpseal.totp import OtpType, Parameters
from otpseal.trust_book import TrustBook
from otpseal.verification import Decision, Outcome
from otpseal.wiring_admin import LAYOUT

ALICE, BOB = Secret(b"CANARY alice's seed: 32 bytes ..."[:32]), Secret(b"b" * 20)
PINNED = (
    b'{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
)
COUNTS = Parameters(type=OtpType.HOTP)


@dataclass
class Shop:
    """A store, and a service on it."""

    store: SqlStore
    keys: RsaKeys
    clock: TurnedClock
    service: Service

    @classmethod
    def opened(cls, store: SqlStore, keys: RsaKeys, clock: TurnedClock) -> "Shop":
        """Open a service on a store; an empty one gets a storage key."""
        with store.transaction() as tx:
            record = tx.storage_key_record()
            if record is None:
                record = StorageKey.generate().wrap(keys)
                tx.set_storage_key_record(record)
        key = StorageKey.unwrap(record, keys)
        service = Service(store, keys=keys, storage_key=key, clock=clock)
        return cls(store, keys, clock, service)

    def fill(self) -> list[str]:
        """Make accounts and a caller; returns alice's recovery codes."""
        accounts = self.service.accounts
        accounts.bring(NewAccount("alice", issuer="Shop", label="Älice"), ALICE)
        accounts.bring(NewAccount("bob", COUNTS, counter=5), BOB)
        self.service.callers.create("shop", frozenset({Scope.VERIFY}))
        self.book().add("uni", PINNED, prefix="uni/")
        with self.store.transaction() as tx:
            for jti in ("seen", "without"):
                tx.remember_envelope("uni", jti, self.clock() + 1000)
            tx.keep_receipt("uni", "seen", digest=b"d" * 32, receipt="its receipt")
            tx.put_envelope_sequence(EnvelopeSequence("alice", "uni", 7, self.clock()))
        return accounts.make_recovery_codes("alice")

    def book(self) -> TrustBook:
        """Return what pins authorities."""
        return TrustBook(self.store, self.service.storage_key, self.clock)

    def sequence(self, account: str = "alice") -> tuple[str, int] | None:
        """Return whose account it is, and the sequence of its newest envelope."""
        with self.store.transaction() as tx:
            found = tx.envelope_sequence(account)
        return None if found is None else (found.authority, found.sequence)

    def put_sequence(self, authority: str, number: int, account: str = "alice") -> None:
        """Say which envelope is an account's newest."""
        with self.store.transaction() as tx:
            row = EnvelopeSequence(account, authority, number, self.clock())
            tx.put_envelope_sequence(row)

    def backup(self) -> bytes:
        """Return a backup."""
        stream = io.BytesIO()
        self.archivist().write(stream)
        return stream.getvalue()

    def archivist(self) -> Archivist:
        """Return what writes backups."""
        return Archivist(
            SqlArchive(self.store),
            self.store,
            keys=self.keys,
            storage_key=self.service.storage_key,
            layout=LAYOUT,
            clock=self.clock,
        )

    def try_code(self, code: str, account: str = "alice") -> Outcome:
        """Submit a code; returns what was decided."""
        (done,) = self.service.verify_batch([Attempt(code, account)])
        assert isinstance(done, Decision), done
        return done.outcome

    def code(self, seed: Secret = ALICE) -> str:
        """Return the right code now."""
        return totp.generate(seed, self.clock()).text

    def counted(self, counter: int) -> str:
        """Return bob's code of a counter."""
        return totp.hotp(BOB.reveal(), counter)


def restorer(store: SqlStore, keys: RsaKeys, clock: TurnedClock) -> Restorer:
    """Return what restores into an open store."""

    @contextmanager
    def opened() -> Iterator[SqlArchive]:
        yield SqlArchive(store)

    return Restorer(opened, keys=keys, layout=LAYOUT, clock=clock)
