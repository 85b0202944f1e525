"""What attempts are decided about: accounts with their codes at one instant.

One that exists is made of its row, one that does not of a seed that nobody has; both
cost the same work.
"""

from dataclasses import dataclass

from otpseal import totp
from otpseal.account_state import State
from otpseal.attempt import is_text
from otpseal.errors import OtpsealError, SeedMissing, SeedUnreadable
from otpseal.ports import AccountRow
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey
from otpseal.verification import Account


@dataclass(slots=True)
class Subject:
    """An account within a batch: what was read, and what became of it."""

    account: Account
    seed: Secret
    parameters: totp.Parameters
    changed: bool = False


class Subjects:
    """Makes subjects.

    Args:
        storage_key: opens seeds.
        window: no account gets a larger window than this, in steps.
    """

    def __init__(self, storage_key: StorageKey, *, window: int) -> None:
        self._storage_key = storage_key
        self._window = window
        self._made_for, self._decoy = self._new_decoy()

    def _new_decoy(self) -> tuple[int, bytes]:
        """Return what is opened, and thrown away, for an unknown account.

        The same work as for a known one. Made once for each storage key.
        """
        key = self._storage_key
        canonical = totp.CLASSIC.canonical
        decoy = key.seal_seed(key.dummy_seed(""), "", parameters=canonical)
        return key.generation, decoy

    def known(self, row: AccountRow | None, now: float) -> Subject | OtpsealError:
        """Return what a row makes; an error for none, or one that cannot be read."""
        if row is None:
            return SeedMissing("Seed not decrypted yet")
        try:
            seed = row.open_seed(self._storage_key)
        except SeedUnreadable as error:
            return error
        codes = self.candidates(seed, row.parameters, row.state, now)
        account = Account(row.id, row.state, codes, row.parameters.digits)
        return Subject(account, seed, row.parameters)

    def stranger(self, name: str, now: float) -> Subject:
        """Return what an unknown account is decided by; nobody has its seed."""
        parameters = totp.CLASSIC
        canonical = parameters.canonical
        if self._made_for != self._storage_key.generation:
            self._made_for, self._decoy = self._new_decoy()
        self._storage_key.open_seed(self._decoy, "", parameters=canonical)
        seed = self._storage_key.dummy_seed(name if is_text(name) else "")
        codes = self.candidates(seed, parameters, State(), now)
        # The empty id is no account's: what is saved for it changes nothing.
        account = Account("", State(), codes, known=False)
        return Subject(account, seed, parameters)

    def candidates(
        self, seed: Secret, parameters: totp.Parameters, state: State, now: float
    ) -> totp.Candidates:
        """Return the codes that an account takes at `now`."""
        return totp.candidates(
            seed,
            now,
            window=min(parameters.window, self._window),
            parameters=parameters,
            drift=state.drift,
            last_step=state.last_step,
        )
