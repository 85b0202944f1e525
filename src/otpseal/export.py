"""Accounts move out: sealed to another service's key, or, if it must be, in clear.

The audit event is durable before the first seed is opened: no audit, no action.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import travel
from otpseal.audit import Detail, Event, Kind
from otpseal.errors import MoveRefused
from otpseal.formats.otpauth import key_uri
from otpseal.formats.pskc.token import Token
from otpseal.ledger import Ledger
from otpseal.ports import AccountRow, Clock, Store
from otpseal.storage_key import StorageKey
from otpseal.totp import OtpType

if TYPE_CHECKING:
    # Not at run time: lxml is slow to import, and this module is beside all others.
    from otpseal.formats.pskc.writer import ContainerWriter

_AT_ONCE: Final = 500


class Exporter:
    """Gives the lines of an export.

    Args:
        store: durable state.
        storage_key: opens the store's seeds.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def chosen(self, ids: Sequence[str], *, prefix: str = "") -> list[str]:
        """Return which accounts are meant: those ids, or all that begin so.

        Raises:
            MoveRefused: there is none, or one of the ids does not exist.
        """
        with self._store.transaction(shared=True) as tx:
            names = tx.account_ids()
        if ids:
            missing = sorted(set(ids) - set(names))
            if missing:
                raise MoveRefused(f"there is no account {missing[0]!r}")
            return sorted(set(ids))
        names = [name for name in names if name.startswith(prefix)]
        if not names:
            raise MoveRefused("there is no such account")
        return names

    def sealed(
        self, names: Sequence[str], key: RSAPublicKey, kid: str
    ) -> Iterator[str]:
        """Give a line for each account, its seed sealed to `key`; see `travel`.

        Raises:
            SeedUnreadable, StoreUnavailable: the lines given so far are not all.
        """
        self._record({"count": len(names), "kid": kid})

        def line(row: AccountRow) -> str:
            seed = row.open_seed(self._storage_key)
            one = travel.Traveller(
                row.id,
                row.parameters,
                row.issuer,
                row.label,
                row.state.status.value,
                row.state.last_step,
                row.state.drift,
                travel.seal(seed, row.id, row.parameters, key),
            )
            return travel.render(one, kid)

        return self._lines(names, line)

    def container(
        self, names: Sequence[str], writer: "ContainerWriter"
    ) -> Iterator[str]:
        """Give the parts of a PSKC container: its head, each account, its foot.

        It carries no status, no window and no spent step of TOTP.

        Raises as `sealed` does, and:
            MoveRefused: an account cannot be written in XML.
        """
        self._record({"count": len(names), "kid": writer.kid, "form": "pskc"})

        def package(row: AccountRow) -> str:
            parameters = row.parameters
            timed = parameters.type is OtpType.TOTP
            return writer.package(
                Token(
                    account=row.id,
                    issuer=row.issuer,
                    label=row.label,
                    type=parameters.type.value,
                    algorithm=parameters.algorithm,
                    digits=parameters.digits,
                    period=parameters.period,
                    counter=0 if timed else row.state.last_step + 1,
                    drift=row.state.drift,
                    seed=row.open_seed(self._storage_key),
                )
            )

        packages = self._lines(names, package)
        return chain([writer.head()], packages, [writer.foot()])

    def plaintext(self, names: Sequence[str]) -> Iterator[str]:
        """Give the otpauth URI of each account: whoever reads it has its codes.

        Raises as `sealed` does.
        """
        self._record({"count": len(names), "form": "plaintext"})

        def line(row: AccountRow) -> str:
            parameters = row.parameters
            timed = parameters.type is OtpType.TOTP
            seed = row.open_seed(self._storage_key)
            try:
                return key_uri(
                    seed,
                    issuer=row.issuer,
                    label=row.label or row.id,
                    kind=parameters.type.value,
                    algorithm=parameters.algorithm,
                    digits=parameters.digits,
                    period=parameters.period,
                    counter=0 if timed else row.state.last_step + 1,
                )
            except ValueError as error:
                raise MoveRefused(
                    f"account {row.id!r} cannot be written as a URI: {error}"
                ) from None

        return self._lines(names, line)

    def _record(self, detail: Detail) -> None:
        with self._store.transaction() as tx:
            event = Event(Kind.ACCOUNTS_EXPORTED, self._clock(), detail=detail)
            Ledger(tx, self._storage_key).record(event)

    def _lines(
        self, names: Sequence[str], line: Callable[[AccountRow], str]
    ) -> Iterator[str]:
        for start in range(0, len(names), _AT_ONCE):
            with self._store.transaction(shared=True) as tx:
                rows = tx.accounts(names[start : start + _AT_ONCE])
            for row in rows.values():
                yield line(row)
