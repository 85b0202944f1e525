"""The v1 API's calls about accounts: made, shown, changed, deleted.

Each waits for the store in a thread of its own; opening a sealed seed costs 6 ms of a
core and has its own bounded queue, behind a look at the credential.
"""

from typing import Final

from otpseal import totp
from otpseal.access import Scope
from otpseal.account_id import is_account_id, parse_account_id
from otpseal.account_state import NEVER
from otpseal.accounts import MAX_PAGE, NEW_SEED_BYTES, NewAccount, otpauth_uri
from otpseal.audit import NO_ACCOUNT
from otpseal.errors import ParametersRefused
from otpseal.http.enrolment import qr_svg
from otpseal.http.limits import WorkQueue
from otpseal.http.v1 import Call, Routes
from otpseal.http.v1_fields import Fields, Query, bad_cursor, closed_cursor
from otpseal.http.wire import Answer, json_answer
from otpseal.ledger import rfc3339
from otpseal.ports import AccountRow
from otpseal.secret import Secret
from otpseal.service import Service

DEFAULT_PAGE: Final = 50

_DELETED: Final = Answer(
    b"",
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    status=204,
)


class AccountCalls:
    """The calls.

    Args:
        service: the use cases.
        work: runs what waits for the store.
        decryptions: bounds the RSA work.
    """

    def __init__(
        self, service: Service, *, work: WorkQueue, decryptions: WorkQueue
    ) -> None:
        self._service = service
        self._book = service.accounts
        self._work = work
        self._decryptions = decryptions
        self.paths: Routes = {
            "/v1/accounts": {"GET": self.list_accounts, "POST": self.create}
        }
        self.one = {"GET": self.show, "DELETE": self.delete}
        self.verbs: Routes = {
            "enable": {"POST": self.enable},
            "disable": {"POST": self.disable},
            "replace": {"POST": self.replace},
            "recovery-codes": {"POST": self.make_recovery_codes},
            "code": {"GET": self.current_code},
        }

    async def create(self, call: Call) -> Answer:
        """`POST /v1/accounts`: make an account, of a new seed or of a sealed one."""
        fields = await call.fields()
        if "sealed_seed" in fields:
            sealed = fields.text("sealed_seed")
            new = _new_account(fields)
            fields.end()
            # Not in the decryptions' queue, which strangers would fill.
            await self._work.run(self._may_bring, call, new)
            row = await self._decryptions.run(self._bring, call, new, sealed)
            return json_answer(shown(row), status=201)
        seed_bytes = fields.number("seed_bytes", NEW_SEED_BYTES)
        new = _new_account(fields)
        fields.end()
        return await self._work.run(self._create, call, new, seed_bytes)

    def _create(self, call: Call, new: NewAccount, seed_bytes: int) -> Answer:
        row, seed = self._book.create(
            new, seed_bytes=seed_bytes, credential=call.credential
        )
        return json_answer(_with_seed(row, seed), status=201)

    def _may_bring(self, call: Call, new: NewAccount) -> None:
        self._book.authorize(call.credential, Scope.IMPORT)
        parse_account_id(new.id)

    def _bring(self, call: Call, new: NewAccount, sealed: str) -> AccountRow:
        # A seed that does not open is counted for no account: there is none yet, and
        # names that callers make up must not fill the table of counts.
        seed = self._service.open_sealed(sealed, account=NO_ACCOUNT)
        return self._book.bring(new, seed, credential=call.credential)

    async def list_accounts(self, call: Call) -> Answer:
        """`GET /v1/accounts?limit=&cursor=`: the caller's accounts by id."""
        query = Query(call.scope["query_string"])
        limit = query.number("limit", DEFAULT_PAGE, most=MAX_PAGE)
        after = query.cursor()
        query.end()
        if after is not None and not is_account_id(after):
            raise bad_cursor()

        def page() -> list[AccountRow]:
            return self._book.page(after or "", limit, credential=call.credential)

        rows = await self._work.run(page)
        is_full = len(rows) == limit
        return json_answer(
            {
                "accounts": [shown(row) for row in rows],
                "next_cursor": closed_cursor(rows[-1].id) if is_full else None,
            }
        )

    async def show(self, call: Call) -> Answer:
        """`GET /v1/accounts/{id}`: never the seed."""

        def show() -> AccountRow:
            return self._book.show(call.named, credential=call.credential)

        return json_answer(shown(await self._work.run(show)))

    async def delete(self, call: Call) -> Answer:
        """`DELETE /v1/accounts/{id}`: the account and its seed."""

        def delete() -> None:
            self._book.delete(call.named, credential=call.credential)

        await self._work.run(delete)
        return _DELETED

    async def enable(self, call: Call) -> Answer:
        """`POST /v1/accounts/{id}:enable`: and reset its throttle."""
        (await call.fields()).end()

        def enable() -> AccountRow:
            return self._book.enable(call.named, credential=call.credential)

        return json_answer(shown(await self._work.run(enable)))

    async def disable(self, call: Call) -> Answer:
        """`POST /v1/accounts/{id}:disable`: refuse all codes."""
        (await call.fields()).end()

        def disable() -> AccountRow:
            return self._book.disable(call.named, credential=call.credential)

        return json_answer(shown(await self._work.run(disable)))

    async def replace(self, call: Call) -> Answer:
        """`POST /v1/accounts/{id}:replace`: by a new seed, or by a sealed one."""
        fields = await call.fields()
        sealed = fields.text("sealed_seed") if "sealed_seed" in fields else None
        fields.end()
        if sealed is None:
            return await self._work.run(self._replace, call, None)
        await self._work.run(self._may_replace, call)
        return await self._decryptions.run(self._replace_sealed, call, sealed)

    def _may_replace(self, call: Call) -> None:
        self._book.authorize(call.credential, Scope.ADMIN)
        self._book.show(call.named, credential=call.credential)

    def _replace_sealed(self, call: Call, sealed: str) -> Answer:
        seed = self._service.open_sealed(sealed, account=call.named)
        return self._replace(call, seed)

    def _replace(self, call: Call, seed: Secret | None) -> Answer:
        row, made = self._book.replace_seed(
            call.named, seed, credential=call.credential
        )
        return json_answer(shown(row) if made is None else _with_seed(row, made))

    async def make_recovery_codes(self, call: Call) -> Answer:
        """`POST /v1/accounts/{id}:recovery-codes`: ten new ones, shown once."""
        (await call.fields()).end()

        def make() -> list[str]:
            return self._book.make_recovery_codes(
                call.named, credential=call.credential
            )

        return json_answer({"recovery_codes": await self._work.run(make)})

    async def current_code(self, call: Call) -> Answer:
        """`GET /v1/accounts/{id}:code`: asking never spends it."""

        def current_code() -> totp.Code:
            return self._book.current_code(call.named, credential=call.credential)

        code = await self._work.run(current_code)
        return json_answer({"code": code.text, "valid_for": code.valid_for})


def shown(row: AccountRow) -> dict[str, str | int | None]:
    """Return what may be shown of an account: never its seed, nor a print of it."""
    parameters, state = row.parameters, row.state
    return {
        "id": row.id,
        "type": parameters.type.value,
        "algorithm": parameters.algorithm,
        "digits": parameters.digits,
        "period": parameters.period,
        "window": parameters.window,
        "issuer": row.issuer,
        "label": row.label,
        "state": state.status.value,
        "drift": state.drift,
        "created_at": rfc3339(row.imported_at),
        "last_step": None if state.last_step == NEVER else state.last_step,
    }


def _with_seed(row: AccountRow, seed: Secret) -> dict[str, str | int | None]:
    uri = otpauth_uri(row, seed)
    return {**shown(row), "otpauth_uri": uri, "qr_svg": qr_svg(uri)}


def _new_account(fields: Fields) -> NewAccount:
    classic = totp.CLASSIC
    kind = fields.text("type", classic.type.value)
    if kind not in tuple(totp.OtpType):
        raise ParametersRefused("type must be totp or hotp")
    return NewAccount(
        id=fields.text("id"),
        parameters=totp.Parameters(
            algorithm=fields.text("algorithm", classic.algorithm),
            digits=fields.number("digits", classic.digits),
            period=fields.number("period", classic.period),
            type=totp.OtpType(kind),
            window=fields.number("window", classic.window),
        ),
        issuer=fields.text("issuer", ""),
        label=fields.text("label", ""),
        counter=fields.number("counter", 0),
    )
