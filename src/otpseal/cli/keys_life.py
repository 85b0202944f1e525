"""`otpseal keys prepare`, `rotate` and `list`: the life of a service's keys."""

import re
import time
from typing import Annotated, Final

import typer

from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.cli.progress import search_shown
from otpseal.config import load_settings
from otpseal.key_lifecycle import MAX_OVERLAP_S
from otpseal.key_report import KeyFacts, list_keys
from otpseal.ledger import rfc3339
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_lifecycle

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,8})([smhd])", re.ASCII)


def prepare(
    *, data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Make the next import key and publish it; the active one stays.

    It lies beside the active one (student_private.next.pem) and opens what is sealed
    to it wherever its file is: copy it to all replicas before `keys rotate`.
    """
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        done = make_lifecycle(opened, settings, searching=search_shown).prepare()
    if as_json:
        print_json({"kid": done.kid, "made": done.made, "published": done.published})
        return
    typer.echo(f"the next import key is {done.kid}")
    typer.echo("made and published" if done.made else "it lay ready, and is published")


def rotate(
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the key before still opens: 24h, 7d, 0s.")
    ] = "24h",
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Put the next import key in the place of the active one; made if there is none.

    Interrupted at any point, run it again. Running services follow by themselves. The
    storage key stays the same: an old backup still opens with an old key.
    """
    overlap_s = _seconds(overlap)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        lifecycle = make_lifecycle(opened, settings, searching=search_shown)
        done = lifecycle.rotate(overlap_s=overlap_s)
    until = None if done.before is None else rfc3339(done.until)
    if as_json:
        print_json(
            {
                "kid": done.kid,
                "before": done.before,
                "until": until,
                "finished": done.before is None,
            }
        )
        return
    if done.before is None:
        typer.echo("an interrupted rotation was finished")
        typer.echo(f"the import key is {done.kid}")
        return
    typer.echo(f"the import key is {done.kid}")
    typer.echo(f"the one before opens until {until}: {done.before}")


def list_(
    *, data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List the service's keys, where each is in its life, and what needs it."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        found = list_keys(opened.store, opened.storage_key, time.time)
    if as_json:
        print_json([_described(key) for key in found])
        return
    for key in found:
        typer.echo(f"{key.use} key {key.kid or '(no id)'}: {key.state}")
        for needed in key.needed_by:
            typer.echo(f"  needed by {needed}")


def _described(key: KeyFacts) -> dict[str, object]:
    return {
        "kid": key.kid or None,
        "use": key.use,
        "state": str(key.state),
        "made_at": None if key.made_at is None else rfc3339(key.made_at),
        "until": None if key.until is None else rfc3339(key.until),
        "needed_by": list(key.needed_by),
    }


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else -1
    if not 0 <= seconds <= MAX_OVERLAP_S:
        raise typer.BadParameter(
            "a number and s, m, h or d, up to 366d", param_hint="--overlap"
        )
    return float(seconds)
