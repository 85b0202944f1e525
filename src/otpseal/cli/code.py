"""`otpseal code` and `otpseal verify`: the current code, and an attempt."""

import sys
from typing import Annotated

import typer

from otpseal.cli.answers import tell_decision
from otpseal.cli.options import AsJson, DataDir, KeyFile, OfAccount, print_json
from otpseal.config import load_settings
from otpseal.service import DEFAULT_ACCOUNT
from otpseal.wiring import open_service


def code(
    account: OfAccount = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the current code and how long it is valid. Asking never spends it."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        current = opened.service.show_code(account)
    if as_json:
        print_json({"code": current.text, "valid_for": current.valid_for})
    else:
        typer.echo(f"{current.text}  (valid for {current.valid_for} s)")


def verify(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="Six digits, or - to read stdin.")
    ],
    account: OfAccount = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a code as the service does; it is spent if it is right.

    Exit code 0 if it was accepted, 1 if not.
    """
    text = sys.stdin.readline().strip() if code == "-" else code
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        decision = opened.service.verify(text, account)
    tell_decision(decision, as_json=as_json)
