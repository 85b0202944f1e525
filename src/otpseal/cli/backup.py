"""`otpseal backup` and `otpseal restore`."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sys import stdin
from typing import Annotated, BinaryIO

import typer

from otpseal.cli.files import new_private_file
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.cli.progress import counted
from otpseal.config import load_settings
from otpseal.errors import ConfigurationError
from otpseal.ledger import rfc3339
from otpseal.restore import Restored
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_archivist, make_restorer

_SHOWN = 10
_COUNTERS = (
    "HOTP accounts disabled, since their codes may have been used after the backup;"
    " give them new seeds, or enable them"
)
_RECOVERY = (
    "accounts without some of their recovery codes, since these were used or may have"
    " been; make new ones"
)


def backup(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where it goes; - for stdout.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE if it exists.")
    ] = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is in the store to a file, while the service runs.

    Seeds stay encrypted: without the private key, which is not in it, the file opens
    nothing. Keep both, apart.
    """
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with (
        open_service(settings, create=False, one_shot=True) as opened,
        counted("rows") as count,
        new_private_file(file, force=force) as stream,
    ):
        written = make_archivist(opened).write(stream, told=count)
        kid = opened.keys.kid
    for name in written.unreadable[:_SHOWN]:
        typer.echo(f"warning: the seed of {name!r} cannot be read", err=True)
    told = {
        "accounts": written.accounts,
        "taken_at": rfc3339(written.taken_at),
        "kid": kid,
        "unreadable": written.unreadable,
    }
    if as_json and file != "-":
        print_json(told)
    else:
        typer.echo(f"{written.accounts} accounts; opens with the key {kid}", err=True)


def restore(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The backup; - for stdin.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the content of the store.")
    ] = False,
    unused_since: Annotated[
        bool,
        typer.Option(
            "--unused-since",
            help="No service ran after the backup was taken: HOTP counters and recovery"
            " codes in it are current.",
        ),
    ] = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty store, or in place of a store's content.

    Codes that were used stay used: every last step is raised to now. What may have
    been used after the backup, and cannot be known, is not accepted.
    """
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    restorer = make_restorer(settings)
    with _opened(file) as stream, counted("rows") as told:
        done = restorer.restore(
            stream, replace_existing=replace, unused_since=unused_since, told=told
        )
    if as_json:
        print_json(_as_dict(done))
    else:
        _tell(done)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        # Read more than once. It holds no seed in clear.
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(stdin.buffer, file)
            file.seek(0)
            yield file
        return
    try:
        opened = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}") from None
    with opened:
        yield opened


def _as_dict(done: Restored) -> dict[str, object]:
    return {
        "accounts": done.accounts,
        "taken_at": rfc3339(done.taken_at),
        "raised": done.raised,
        "unreadable": done.unreadable,
        "counters_unknown": done.counters_unknown,
        "recovery_void": done.recovery_void,
        "tickets_void": done.tickets_void,
        "callers": done.callers,
        "clock_behind": done.clock_behind,
    }


def _tell(done: Restored) -> None:
    typer.echo(f"{done.accounts} accounts restored, as of {rfc3339(done.taken_at)}")
    typer.echo(f"last steps raised to now: {done.raised} accounts")
    for names, words in (
        (done.counters_unknown, _COUNTERS),
        (done.recovery_void, _RECOVERY),
        (done.unreadable, "accounts whose seeds cannot be read, as before the backup"),
    ):
        if names:
            more = "" if len(names) <= _SHOWN else ", ... (--json lists all)"
            typer.echo(f"{len(names)} {words}: {', '.join(names[:_SHOWN])}{more}")
    if done.tickets_void:
        typer.echo(
            f"{done.tickets_void} tickets of subscribers have expired, since they may"
            " have been used after the backup; give new ones, and revoke those"
            " subscribers again that were revoked since (`otpseal authority subscriber"
            " list`)"
        )
    if done.callers:
        typer.echo(
            f"{done.callers} tokens and certificates may call: revoke those again that"
            " were revoked after the backup (`otpseal token list`)"
        )
    if done.clock_behind:
        typer.echo(
            "this machine's clock is behind what the store has seen: set it right, or"
            " run `otpseal clock accept`; until then no code is accepted"
        )
