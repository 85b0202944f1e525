"""`otpseal seed request`: ask the authority for a sealed seed, keep it in a file."""

from pathlib import Path
from typing import Annotated, Final

import typer

from otpseal import keypolicy
from otpseal.adapters.file_keys import load_public_key, public_path
from otpseal.cli.files import replace_file
from otpseal.cli.options import AsJson, print_json
from otpseal.config import load_settings
from otpseal.errors import KeyUnavailable
from otpseal.wiring import SERVICE_KEY_NAME

#: The names that the exercise gives to its files.
PUBLIC_KEY_NAME: Final = "student_public.pem"
SEALED_SEED_NAME: Final = "encrypted_seed.txt"


def request(
    *,
    url: Annotated[
        str,
        typer.Option(
            envvar="OTPSEAL_AUTHORITY_URL", help="Where the authority answers."
        ),
    ],
    student_id: Annotated[
        str, typer.Option(help="Who asks; the authority compares it byte for byte.")
    ],
    repo_url: Annotated[
        str, typer.Option(help="The GitHub repository's URL, likewise.")
    ],
    public_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Public key, PEM. Default: {PUBLIC_KEY_NAME} here, else the one"
            " beside the service's private key.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the sealed seed goes.")
    ] = Path(SEALED_SEED_NAME),
    as_json: AsJson = False,
) -> None:
    """Ask the authority for a seed, sealed to this service's public key.

    The same request gives the same seed again. Only the private key opens what is
    written: hand it on with `otpseal seed import`.
    """
    from otpseal.adapters.authority_client import request_sealed_seed

    path = public_key or _usual_public_key()
    if not path.exists():
        raise KeyUnavailable(
            f"there is no public key at {path}: make a key pair with `otpseal keys"
            " generate`, or name the file by --public-key"
        )
    key = load_public_key(path)
    sealed = request_sealed_seed(
        url,
        student_id=student_id,
        github_repo_url=repo_url,
        public_key=keypolicy.public_pem(key),
    )
    advice = "name another place by --out and ask again: it is the same seed"
    replace_file(out, sealed.encode("ascii"), advice=advice)
    kid = keypolicy.key_id(key)
    if as_json:
        print_json({"out": str(out), "characters": len(sealed), "kid": kid})
    else:
        typer.echo(f"sealed seed: {out} ({len(sealed)} characters, for key {kid})")


def _usual_public_key() -> Path:
    here = Path(PUBLIC_KEY_NAME)
    if here.exists():
        return here
    return public_path(load_settings().key_path(SERVICE_KEY_NAME))
