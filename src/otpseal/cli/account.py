"""`otpseal account`: make accounts, look at them, change and remove them."""

from typing import Annotated

import typer

from otpseal import totp
from otpseal.account_state import NEVER
from otpseal.accounts import MAX_PAGE, NEW_SEED_BYTES, NewAccount, otpauth_uri
from otpseal.attempt import Purpose
from otpseal.cli.answers import tell_decision
from otpseal.cli.options import AccountId, AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import AccountMissing, ParametersRefused, SeedMissing
from otpseal.ledger import rfc3339
from otpseal.ports import AccountRow
from otpseal.service import DEFAULT_ACCOUNT, Attempt
from otpseal.wiring import open_service

app = typer.Typer(
    no_args_is_help=True, help="Make accounts, look at them, change and remove them."
)

NewId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Name of the account, such as alice or shop/alice."
    ),
]
Codes = Annotated[str, typer.Argument(metavar="CODE", help="What the device shows.")]


@app.command()
def create(
    account: NewId,
    type_: Annotated[str, typer.Option("--type", help="totp or hotp.")] = "totp",
    algorithm: Annotated[
        str, typer.Option(help="SHA1, SHA256 or SHA512; many apps know SHA1 only.")
    ] = "SHA1",
    digits: Annotated[int, typer.Option(help="Length of a code, 6 to 8.")] = 6,
    period: Annotated[int, typer.Option(help="Seconds of a step, 15 to 300.")] = 30,
    window: Annotated[
        int, typer.Option(help="Steps accepted before and after, 0 or 1.")
    ] = 1,
    issuer: Annotated[str, typer.Option(help="Whose service it is for.")] = "",
    label: Annotated[
        str, typer.Option(help="Whose account it is; left out, apps show the ID.")
    ] = "",
    seed_bytes: Annotated[
        int, typer.Option(help="Length of the seed, 20 to 64 bytes.")
    ] = NEW_SEED_BYTES,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an account with a new seed, and show the seed once, as URI and QR code.

    The account waits for `otpseal account confirm ID CODE`.
    """
    parameters = totp.Parameters(algorithm, digits, period, _otp_type(type_), window)
    new = NewAccount(account, parameters, issuer, label)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        row, seed = opened.service.accounts.create(new, seed_bytes=seed_bytes)
    uri = otpauth_uri(row, seed)
    if as_json:
        print_json({**described(row), "otpauth_uri": uri})
        return
    _print_qr_code(uri)
    typer.echo(uri)
    typer.echo(f"account {row.id} is pending: confirm it with a first code")


def _otp_type(text: str) -> totp.OtpType:
    try:
        return totp.OtpType(text)
    except ValueError:
        raise ParametersRefused("type must be totp or hotp") from None


def _print_qr_code(uri: str) -> None:
    import sys

    if sys.stdout.isatty():
        import segno

        segno.make(uri, micro=False).terminal(compact=True)


@app.command("list")
def list_(
    prefix: Annotated[
        str, typer.Option(help="Only ids that begin so, such as shop/.")
    ] = "",
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the accounts, a line each; `--json` prints one object a line."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        after = ""
        while page := opened.service.accounts.page(after, MAX_PAGE, prefix=prefix):
            for row in page:
                if as_json:
                    print_json(described(row))
                else:
                    kind = row.parameters.type.value
                    typer.echo(f"{row.id}  {kind}  {row.state.status.value}")
            after = page[-1].id


@app.command()
def show(
    account: AccountId = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show an account's parameters and state, never its seed."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        row = opened.service.account(account)
    if row is None:
        raise _missing(account)
    shown = described(row)
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name.replace('_', ' ')}: {'none' if value is None else value}")


def described(row: AccountRow) -> dict[str, object]:
    """Return what may be told of an account."""
    parameters, state = row.parameters, row.state
    timed = parameters.type is totp.OtpType.TOTP
    never = state.last_step == NEVER
    began = (
        rfc3339(state.last_step * parameters.period) if timed and not never else None
    )
    return {
        "account": row.id,
        "type": parameters.type.value,
        "algorithm": parameters.algorithm,
        "digits": parameters.digits,
        "period": parameters.period,
        "window": parameters.window,
        "issuer": row.issuer,
        "label": row.label,
        "imported_at": rfc3339(row.imported_at),
        "state": state.status.value,
        "consecutive_failures": state.failures,
        "last_step": None if never else state.last_step,
        "last_step_began": began,
        "drift": state.drift,
    }


def _missing(account: str) -> SeedMissing | AccountMissing:
    if account == DEFAULT_ACCOUNT:
        return SeedMissing(
            "there is no seed yet: import one with `otpseal seed import FILE`"
        )
    return AccountMissing(
        "there is no such account: `otpseal account list` shows those there are"
    )


@app.command()
def confirm(
    account: NewId,
    code: Codes,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a pending account active by its first code, which is spent."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        attempt = Attempt(code, account, purpose=Purpose.CONFIRM)
        decision = opened.service.decide(attempt)
    tell_decision(decision, as_json=as_json)


@app.command()
def resync(
    account: NewId,
    first: Codes,
    second: Annotated[
        str, typer.Argument(metavar="NEXT_CODE", help="What it shows right after.")
    ],
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Learn how far a device is off, by two consecutive codes that it shows."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        attempt = Attempt(first, account, purpose=Purpose.RESYNC, next_code=second)
        decision = opened.service.decide(attempt)
    tell_decision(decision, as_json=as_json)


@app.command()
def enable(
    account: AccountId = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
) -> None:
    """Enable an account and reset its throttle; spent codes stay spent."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        opened.service.accounts.enable(account)
    typer.echo(f"account {account} is enabled")


@app.command()
def disable(
    account: AccountId = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
) -> None:
    """Refuse every code until the account is enabled again."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        opened.service.accounts.disable(account)
    typer.echo(f"account {account} is disabled")


@app.command()
def delete(
    account: NewId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
) -> None:
    """Delete an account and its seed, for good."""
    if not yes:
        typer.confirm(f"delete account {account} and its seed for good?", abort=True)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        opened.service.accounts.delete(account)
    typer.echo(f"account {account} is deleted")


@app.command("recovery-codes")
def recovery_codes(
    account: NewId,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make ten new recovery codes, shown this once; earlier ones become void."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        codes = opened.service.accounts.make_recovery_codes(account)
    if as_json:
        print_json({"account": account, "recovery_codes": codes})
    else:
        typer.echo("\n".join(codes))
