"""`otpseal authority trust`: whose sealed seeds this service believes."""

from pathlib import Path
from typing import Annotated

import typer

from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import ConfigurationError
from otpseal.ledger import rfc3339
from otpseal.seed_claims import is_authority_name
from otpseal.trust_book import Pin, fingerprints
from otpseal.trust_material import MAX_FILE_BYTES
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_trust_book

app = typer.Typer(
    no_args_is_help=True,
    help="Say whose sealed seeds this service believes. Works on the service's store.",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The authority's, as it signs.")
]


@app.command()
def add(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Its JWKS, one public key in PEM form, or the certificate of its CA.",
        ),
    ],
    prefix: Annotated[
        str, typer.Option(help="Only accounts that begin so, such as shop/.")
    ] = "",
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace one of that name.")
    ] = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Believe an authority. Compare what is printed with what its operator says."""
    content = _content(file)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        book = make_trust_book(opened)
        made = book.add(name, content, prefix=prefix, replace=replace)
    known_by = fingerprints(made)
    if as_json:
        print_json({"authority": name, "prefix": prefix, "keys": known_by})
        return
    reach = f"accounts {prefix}*" if prefix else "all accounts"
    typer.echo(f"{name} is believed about {reach}, known by:")
    for fingerprint in known_by:
        typer.echo(f"  {fingerprint}")


@app.command("list")
def list_(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List all pinned authorities; `--json` prints one object a line."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        pins = make_trust_book(opened).all()
    for pin in pins:
        if as_json:
            print_json(_described(pin))
            continue
        authority = pin.authority
        name = _shown(authority.name)
        state = "" if pin.genuine else "  NOT GENUINE: not pinned by this service"
        fence = f"  {authority.prefix}*" if authority.prefix and pin.genuine else ""
        known_by = " ".join(fingerprints(authority)) if pin.genuine else ""
        typer.echo(f"{name}{fence}  {known_by}{state}")


@app.command()
def remove(name: Name, data_dir: DataDir = None, key_file: KeyFile = None) -> None:
    """Believe an authority no longer; what it brought stays."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        make_trust_book(opened).remove(name)
    typer.echo(f"{_shown(name)} is believed no longer")


def _shown(name: str) -> str:
    # What somebody wrote into the database reaches no terminal as it is.
    return name if is_authority_name(name) else repr(name)


def _described(pin: Pin) -> dict[str, object]:
    return {
        "authority": pin.authority.name,
        "prefix": pin.authority.prefix,
        "keys": fingerprints(pin.authority) if pin.genuine else [],
        "added_at": rfc3339(pin.added_at) if pin.genuine else None,
        "genuine": pin.genuine,
    }


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
