"""`otpseal keys prepare`, `rotate` and `list`: the life of a service's keys."""

import re
import time
from dataclasses import asdict
from typing import Annotated, Final

import typer

from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.cli.progress import counted, search_shown
from otpseal.config import Settings, load_settings
from otpseal.key_lifecycle import MAX_OVERLAP_S
from otpseal.key_places import key_places, load_named
from otpseal.key_report import ALTERED, KeyFacts, list_keys
from otpseal.ledger import rfc3339
from otpseal.unlocking import SERVICE_KEY_NAME
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_lifecycle, make_storage_rotation

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OVERLAP: Final = "24h"
_DURATION: Final = re.compile(r"([0-9]{1,8})([smhd])", re.ASCII)


def prepare(
    *,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="PKCS11-URI",
            help="The next key is in a token, where its own tools made it.",
        ),
    ] = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the next import key and publish it; the active one stays.

    It lies beside the active one (student_private.next.pem) and opens what is sealed
    to it wherever its file is: copy it to all replicas before `keys rotate`. With
    --key it is tried and published only.
    """
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        named = None if key is None else load_named(settings, key)
        lifecycle = make_lifecycle(opened, settings, searching=search_shown)
        done = lifecycle.prepare(named)
    if as_json:
        print_json({"kid": done.kid, "made": done.made, "published": done.published})
        return
    typer.echo(f"the next import key is {done.kid}")
    typer.echo("made and published" if done.made else "it lay ready, and is published")


def rotate(
    *,
    overlap: Annotated[
        str | None,
        typer.Option(
            help="How long the key before still opens: 7d, 0s. Default: 24h.",
            show_default=False,
        ),
    ] = None,
    storage: Annotated[
        bool,
        typer.Option(
            "--storage", help="Replace the storage key, and encrypt all seeds anew."
        ),
    ] = False,
    void_recovery: Annotated[
        bool,
        typer.Option(
            "--void-recovery-codes", help="With --storage: end all recovery codes, too."
        ),
    ] = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Put the next import key in the place of the active one; made if there is none.

    Interrupted at any point, run it again. Running services follow by themselves. The
    storage key stays the same, and an old backup still opens with an old key; after a
    leak run it again with --storage, which replaces that key and not the import key.
    """
    overlap_s = _seconds(_OVERLAP if overlap is None else overlap)
    if storage and overlap is not None:
        raise typer.BadParameter("--overlap is about import keys, not --storage")
    if void_recovery and not storage:
        raise typer.BadParameter("--void-recovery-codes goes with --storage")
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    if storage:
        _replace_storage_key(settings, void_recovery=void_recovery, as_json=as_json)
        return
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
                "setting": done.setting,
            }
        )
        return
    if done.before is None:
        typer.echo("an interrupted rotation was finished")
    typer.echo(f"the import key is {done.kid}")
    if done.before is not None:
        typer.echo(f"the one before opens until {until}: {done.before}")
    if done.setting is not None:
        typer.echo(f"set OTPSEAL_KEY='{done.setting}' before that one is destroyed")


def _replace_storage_key(
    settings: Settings, *, void_recovery: bool, as_json: bool
) -> None:
    with (
        open_service(settings, create=False) as opened,
        counted("encrypting anew") as told,
    ):
        rotation = make_storage_rotation(opened)
        done = rotation.replace(void_recovery=void_recovery, told=told)
    if as_json:
        print_json(asdict(done))
        return
    typer.echo("the storage key was replaced")
    typer.echo(f"encrypted anew: {done.accounts} seeds, {done.own_keys} own keys")
    typer.echo(f"authenticated anew: {done.events} events")
    if done.altered:
        typer.echo(f"altered before, and left so: {done.altered} rows")
    if done.unreadable:
        typer.echo(f"seeds that did not decrypt: {', '.join(done.unreadable)}")
    if void_recovery:
        typer.echo(f"void from now on: {done.recovery_void} recovery codes")


def list_(
    *, data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List the service's keys, where each is in its life, and what needs it."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        found = list_keys(opened.store, opened.storage_key, time.time)
        places = key_places(settings, SERVICE_KEY_NAME)
        where = {key.kid: places.place_of(key.kid) for key in found if _is_listed(key)}
    if as_json:
        print_json([_described(key, where.get(key.kid)) for key in found])
        return
    for key in found:
        typer.echo(f"{key.use} key {key.kid or '(no id)'}: {key.state}")
        if _is_listed(key):
            typer.echo(f"  in {where[key.kid] or 'no place that the settings name'}")
        for needed in key.needed_by:
            typer.echo(f"  needed by {needed}")


def _is_listed(key: KeyFacts) -> bool:
    """Tell whether the key has a place outside the store."""
    return key.use == "import" and key.state != ALTERED


def _described(key: KeyFacts, place: str | None) -> dict[str, object]:
    return {
        "kid": key.kid or None,
        "use": key.use,
        "state": str(key.state),
        "place": place,
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
