"""`otpseal code` and `otpseal verify`: the current code, and an attempt."""

import sys
from typing import Annotated

import typer

from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.verification import Outcome
from otpseal.wiring import open_service

_TOLD = {
    Outcome.ACCEPTED: "valid",
    Outcome.WRONG: "not valid: wrong code",
    Outcome.MALFORMED: "not valid: a code is six digits",
    Outcome.REPLAYED: "not valid: this code was used already",
    Outcome.THROTTLED: "not looked at: too many attempts",
    Outcome.DISABLED: "not looked at: the account is disabled"
    " (`otpseal account enable`)",
}


def code(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Show the current code and how long it is valid. Asking never spends it."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        current = opened.service.show_code()
    if as_json:
        print_json({"code": current.text, "valid_for": current.valid_for})
    else:
        typer.echo(f"{current.text}  (valid for {current.valid_for} s)")


def verify(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="Six digits, or - to read stdin.")
    ],
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
        decision = opened.service.verify(text)
    accepted = decision.outcome is Outcome.ACCEPTED
    if as_json:
        answer: dict[str, object] = {"valid": accepted}
        if not accepted:
            answer["reason"] = decision.outcome.name.lower()
        if decision.retry_after_s:
            answer["retry_after"] = decision.retry_after_s
        print_json(answer)
    else:
        wait = f"; try again in {decision.retry_after_s} s"
        told = _TOLD[decision.outcome] + (wait if decision.retry_after_s else "")
        typer.echo(told)
    if not accepted:
        raise typer.Exit(1)
