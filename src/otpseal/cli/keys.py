"""`otpseal keys`: make RSA key pairs and name them."""

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from otpseal import keypolicy, unlocking
from otpseal.adapters import file_keys
from otpseal.cli.authority import authority_settings
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.cli.progress import search_shown
from otpseal.config import load_settings
from otpseal.key_places import SERVICE_KEY_BITS
from otpseal.key_source import load_private_key

app = typer.Typer(no_args_is_help=True, help="Make, show and replace keys.")


class Purpose(StrEnum):
    """Whom a key pair is for."""

    SERVICE = "service"
    AUTHORITY = "authority"


@app.command()
def generate(
    *,
    purpose: Annotated[
        Purpose,
        typer.Option(
            "--for", help="service: 4096 bits; authority: 8192, to receive proofs."
        ),
    ] = Purpose.SERVICE,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the two files, under their usual names."),
    ] = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an RSA key pair: PKCS#8 PEM 0600 and public PEM 0644, never overwriting.

    Without --out and --key-file it goes where the service (or authority) looks for
    it. OTPSEAL_KEY_PASSPHRASE_FILE names a file with a passphrase to protect it by.
    """
    if out is not None and key_file is not None:
        raise typer.BadParameter("give --out or --key-file, not both")
    if purpose is Purpose.SERVICE:
        name, bits = unlocking.SERVICE_KEY_NAME, SERVICE_KEY_BITS
        settings = load_settings(data_dir=data_dir, key_file=key_file)
    else:
        name, bits = unlocking.AUTHORITY_KEY_NAME, unlocking.AUTHORITY_KEY_BITS
        settings = authority_settings(data_dir=data_dir, key_file=key_file)
    private_path = settings.key_path(name) if out is None else out / name
    passphrase = settings.key_passphrase()
    # Before the search, which is long: a wrong path should not cost it.
    file_keys.refuse_existing(private_path)
    with search_shown(bits):
        key = file_keys.generate_private_key(bits)
    file_keys.write_key_pair(key, private_path, passphrase)
    public_path = file_keys.public_path(private_path)
    kid = keypolicy.key_id(key.public_key())
    if as_json:
        facts = {
            "private_key": str(private_path),
            "public_key": str(public_path),
            "kid": kid,
            "bits": bits,
        }
        print_json(facts)
        return
    typer.echo(f"private key: {private_path}")
    typer.echo(f"public key:  {public_path}")
    typer.echo(f"key id:      {kid}")


@app.command()
def show(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="PEM file, private or public. Default: the service's private key,"
            " in its file or token."
        ),
    ] = None,
    *,
    as_pem: Annotated[
        bool, typer.Option("--pem", help="Print the public key as PEM, and no more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a key and print its id (RFC 7638), size and kind."""
    private = file is None or _is_private(file)
    if file is None:
        key = load_private_key(load_settings(), unlocking.SERVICE_KEY_NAME).public_key
    elif private:
        passphrase = load_settings().key_passphrase()
        key = file_keys.load_keys(file, passphrase).public_key
    else:
        key = file_keys.load_public_key(file)
    kid = keypolicy.key_id(key)
    kind = "private" if private else "public"
    if as_pem:
        typer.echo(keypolicy.public_pem(key).decode("ascii"), nl=False)
        return
    if as_json:
        print_json({"kid": kid, "bits": key.key_size, "kind": kind})
        return
    typer.echo(f"key id: {kid}")
    typer.echo(f"bits:   {key.key_size}")
    typer.echo(f"kind:   {kind}")


def _is_private(file: Path) -> bool:
    """Tell by its PEM armour; what cannot be read is explained by the loader."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        return b"PRIVATE KEY-----" in opened.read(keypolicy.MAX_PEM_BYTES)
    return False
