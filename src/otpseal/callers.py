"""Who may call the v1 API: made, listed and revoked; and let in, or not.

A token is shown once and rests as a digest. It is looked up inside the transaction
of the action that it is for, so that a revocation holds from the next request on,
in every process.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Final

from otpseal import access
from otpseal.access import Caller, Scope
from otpseal.account_id import is_prefix
from otpseal.audit import Event, Kind
from otpseal.errors import (
    AccountMissing,
    CallerMissing,
    CallerRefused,
    Forbidden,
)
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Store, Transaction
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

_ID_BYTES: Final = 5
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


def enter(
    tx: Transaction, credential: bytes | None, scope: Scope, now: float
) -> Caller | None:
    """Return who calls; None for this machine's own callers, who are not asked.

    Raises:
        Unauthenticated: unknown, revoked or expired.
        Forbidden: known, but without that scope.
    """
    if credential is None:
        return None
    known = tx.callers([credential])
    return access.admit(known.get(credential), scope, now)


def expect_inside(caller: Caller | None, account: str) -> None:
    """Tell by returning that an account is on the caller's side of the fence.

    Raises:
        AccountMissing: as for one that does not exist.
    """
    if caller is not None and not caller.has(account):
        raise AccountMissing("There is no such account")


def expect_covered(caller: Caller | None, account: str) -> None:
    """Tell by returning that the caller may make an account of that name.

    Raises:
        Forbidden: whether it exists or not.
    """
    if caller is not None and not caller.has(account):
        raise Forbidden(f"This token is for accounts that begin with {caller.prefix}")


@dataclass(frozen=True, slots=True)
class NewCaller:
    """What was made.

    Attributes:
        caller: as it rests.
        token: shown this once; None for a certificate's name.
    """

    caller: Caller
    token: Secret | None


class CallerBook:
    """Makes, lists and revokes callers; on this machine only.

    Args:
        store: durable state.
        storage_key: authenticates the audit events.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def create(
        self,
        name: str,
        scopes: frozenset[Scope],
        *,
        prefix: str = "",
        lasts_s: float | None = None,
        certificate: str | None = None,
    ) -> NewCaller:
        """Admit a caller.

        Args:
            name: for people, 1 to 64 characters.
            scopes: what it may do.
            prefix: fences it in: only accounts that begin so; ends in "/", or "".
            lasts_s: seconds until it expires; None for never.
            certificate: a name of its client certificate, such as
                `DNS:shop.example`; None makes a token.

        Raises:
            CallerRefused: says which of them cannot be.
            StoreUnavailable: nothing was made.
        """
        _check(name, scopes, prefix)
        token = None
        if certificate is None:
            token = access.new_token(secrets.token_bytes(access.TOKEN_BYTES))
            digest = access.token_digest(token.reveal())
        else:
            digest = access.certificate_digest(certificate)
        if digest is None:
            raise CallerRefused(
                "a certificate's name is DNS:name, URI:uri or email:address"
            )
        with self._store.transaction() as tx:
            now = self._clock()
            if tx.callers([digest]):
                raise CallerRefused(
                    "this certificate's name was admitted before; names are not used"
                    " again, so that a revoked one stays revoked"
                )
            caller = Caller(
                id=f"c{secrets.token_hex(_ID_BYTES)}",
                name=name,
                digest=digest,
                scopes=scopes,
                prefix=prefix,
                created_at=now,
                expires_at=None if lasts_s is None else now + lasts_s,
            )
            tx.add_caller(caller)
            told = " ".join(sorted(scopes))
            detail = {"caller": caller.id, "scopes": told, "prefix": prefix}
            event = Event(Kind.CALLER_CREATED, now, detail=detail)
            Ledger(tx, self._storage_key).record(event)
        return NewCaller(caller, token)

    def all(self) -> list[Caller]:
        """Return every caller, revoked and expired ones too."""
        with self._store.transaction(shared=True) as tx:
            return tx.all_callers()

    def revoke(self, caller: str) -> None:
        """Revoke a caller; its next request is refused, in every process.

        Raises:
            CallerMissing: there is none of that id that is not revoked.
        """
        with self._store.transaction() as tx:
            now = self._clock()
            if not tx.revoke_caller(caller, now):
                raise CallerMissing(
                    "there is no such caller, or it is revoked already:"
                    " `otpseal token list` shows them"
                )
            event = Event(Kind.CALLER_REVOKED, now, detail={"caller": caller})
            Ledger(tx, self._storage_key).record(event)


def _check(name: str, scopes: frozenset[Scope], prefix: str) -> None:
    if not _NAME.fullmatch(name):
        raise CallerRefused("a name has 1 to 64 characters, none of them control")
    if not scopes:
        raise CallerRefused("give at least one scope, or it could do nothing")
    if prefix and not is_prefix(prefix):
        raise CallerRefused(
            "a prefix is an account's id with a slash at its end, such as shop/"
        )
