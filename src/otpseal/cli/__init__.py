"""The command line. Commands import what they need when they run."""

import logging
import os
import sys

import typer

from otpseal import errors, process
from otpseal.cli import (
    account,
    audit,
    authority,
    authority_renew,
    authority_subscribers,
    authority_tls,
    authority_trust,
    backup,
    clock,
    code,
    db,
    demo,
    doctor,
    keys,
    keys_life,
    moving,
    proof,
    seed,
    serve,
    token,
)

#: One table from error to exit code; more special errors first. 0 is success, 1 a
#: refusal (a wrong code among them), 2 what typer gives for wrong usage.
EXIT_CODES: dict[type[errors.OtpsealError], int] = {
    errors.ConfigurationError: 2,
    errors.KeyRefused: 3,
    errors.KeyUnavailable: 3,
    errors.StoreMismatch: 3,  # a key's fault, and no retry mends it
    errors.StoreUnavailable: 4,
    errors.ClockBehind: 4,  # nothing was decided, and the same call may succeed later
    errors.SeedUnreadable: 4,
    errors.AuthorityUnusable: 5,
    errors.OtpsealError: 1,
}

app = typer.Typer(
    name="otpseal",
    help="One-time passwords: seeds travel sealed, rest sealed, and a code is"
    " accepted exactly once. Settings come from OTPSEAL_* variables"
    " (docs/reference.md).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
keys.app.command("prepare")(keys_life.prepare)
keys.app.command("rotate")(keys_life.rotate)
keys.app.command("list")(keys_life.list_)
app.add_typer(keys.app, name="keys")
app.add_typer(seed.app, name="seed")
app.command("code")(code.code)
app.command("verify")(code.verify)
account.app.command("import")(moving.import_)
account.app.command("export")(moving.export)
app.add_typer(account.app, name="account")
app.add_typer(token.app, name="token")
app.add_typer(audit.app, name="audit")
app.add_typer(db.app, name="db")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(clock.app, name="clock")
app.add_typer(proof.app, name="proof")
authority.app.command("init")(authority_subscribers.init)
authority.app.command("renew")(authority_renew.renew)
authority.app.add_typer(authority_subscribers.subscriber_app, name="subscriber")
authority.app.command("ticket")(authority_subscribers.ticket)
authority.app.command("status")(authority_subscribers.status)
authority.app.command("tls")(authority_tls.tls)
authority.app.add_typer(authority_trust.app, name="trust")
app.add_typer(authority.app, name="authority")


def main() -> None:
    """Run a command; a deliberate error is one line on stderr and an exit code."""
    process.forbid_core_dumps()
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    # Libraries speak up when something is wrong, not about their own progress.
    for name in ("alembic", "httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.umask(0o077)
    try:
        app()
    except errors.OtpsealError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(exit_code(error))


def exit_code(error: errors.OtpsealError) -> int:
    """Return what a command ends with after this error."""
    return next(c for kind, c in EXIT_CODES.items() if isinstance(error, kind))
