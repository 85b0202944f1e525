"""How a seed comes to rest in an account, whichever way it arrived.

One seed has one account: two would each accept a code once. And spent stays spent:
a seed that was removed and comes back finds its last step again.
"""

from dataclasses import dataclass, field, replace

from otpseal import totp
from otpseal.account_state import NEVER, TOMBSTONE_S, State, Status
from otpseal.ports import AccountRow, Transaction
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey


@dataclass(frozen=True, slots=True)
class NewSeed:
    """A seed with all that makes an account of it.

    Attributes:
        account: the account's id.
        seed: 16 to 64 bytes; 32 for the classic form.
        parameters: what turns it into codes.
        issuer: shown by authenticator apps.
        label: shown by authenticator apps.
        status: of the new account.
        counter: the next counter of a HOTP account.
    """

    account: str
    seed: Secret = field(repr=False)
    parameters: totp.Parameters = totp.CLASSIC
    issuer: str = ""
    label: str = ""
    status: Status = Status.ACTIVE
    counter: int = 0

    def check(self) -> None:
        """Tell by returning that this can be an account.

        Raises:
            ParametersRefused: says what is out of range.
        """
        self.parameters.check()
        totp.check_seed(self.seed)
        totp.check_counter(self.counter)


def reseeded(old: AccountRow, seed: Secret) -> NewSeed:
    """Return another seed for an account, all else as it is."""
    return NewSeed(old.id, seed, old.parameters, old.issuer, old.label)


def sealed_row(new: NewSeed, storage_key: StorageKey, now: float) -> AccountRow:
    """Return the row of a new account, that nothing was spent of."""
    parameters = new.parameters
    timed = parameters.type is totp.OtpType.TOTP
    return AccountRow(
        id=new.account,
        sealed_seed=storage_key.seal_seed(
            new.seed, new.account, parameters=parameters.canonical
        ),
        fingerprint=storage_key.fingerprint(new.seed),
        parameters=parameters,
        imported_at=now,
        state=State(status=new.status, last_step=NEVER if timed else new.counter - 1),
        issuer=new.issuer,
        label=new.label,
    )


class SeedKeeper:
    """Puts seeds into accounts within one transaction."""

    def __init__(self, tx: Transaction, storage_key: StorageKey) -> None:
        self._tx = tx
        self._storage_key = storage_key

    def seal(self, new: NewSeed, now: float) -> AccountRow:
        """Return the row of a new account, that nothing was spent of."""
        return sealed_row(new, self._storage_key, now)

    def add(self, new: NewSeed, now: float) -> AccountRow:
        """Make an account, neither whose id nor whose seed is there yet."""
        row = self._with_spent(self.seal(new, now))
        self._tx.add_accounts([row])
        return row

    def replace(self, old: AccountRow, new: NewSeed, now: float) -> AccountRow:
        """Put another seed in the place of an account's; throttle and status stay.

        The old seed's spent steps are remembered for a day.
        """
        self.bury(old, now)
        row = self.seal(new, now)
        state = replace(old.state, last_step=row.state.last_step, drift=0)
        row = self._with_spent(replace(row, state=state))
        self._tx.put_account(row)
        return row

    def bury(self, old: AccountRow, now: float) -> None:
        """Remember for a day what was spent of a seed that goes."""
        until = now + TOMBSTONE_S
        self._tx.bury(old.fingerprint, old.state.last_step, until)

    def _with_spent(self, row: AccountRow) -> AccountRow:
        spent = self._tx.buried(row.fingerprint)
        if spent is None or spent <= row.state.last_step:
            return row
        return replace(row, state=replace(row.state, last_step=spent))
