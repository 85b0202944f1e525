"""`otpseal seed request`: ask the authority for a sealed seed, keep it in a file."""

from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import keypolicy
from otpseal.adapters.file_keys import load_public_key, public_path
from otpseal.cli.files import replace_file
from otpseal.cli.options import AsJson, print_json
from otpseal.config import load_settings
from otpseal.errors import KeyUnavailable
from otpseal.key_source import load_private_key
from otpseal.unlocking import SERVICE_KEY_NAME

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
            help=f"Public key, PEM. Default: {PUBLIC_KEY_NAME} here, else that of"
            " the service's private key.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="OTPSEAL_AUTHORITY_CA_FILE",
            help="CA certificates, PEM, that the authority's must be by. Default: the"
            " system's.",
        ),
    ] = None,
    insecure_http: Annotated[
        bool,
        typer.Option(
            "--insecure-http",
            help="Allow http:// beyond this machine, where others may read along and"
            " answer in the authority's place.",
        ),
    ] = False,
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

    key = _public_key(public_key)
    sealed = request_sealed_seed(
        url,
        student_id=student_id,
        github_repo_url=repo_url,
        public_key=keypolicy.public_pem(key),
        ca_file=ca_file,
        insecure_http=insecure_http,
    )
    advice = "name another place by --out and ask again: it is the same seed"
    replace_file(out, sealed.encode("ascii"), advice=advice)
    kid = keypolicy.key_id(key)
    if as_json:
        print_json({"out": str(out), "characters": len(sealed), "kid": kid})
    else:
        typer.echo(f"sealed seed: {out} ({len(sealed)} characters, for key {kid})")


def _public_key(named: Path | None) -> RSAPublicKey:
    path = named or Path(PUBLIC_KEY_NAME)
    if named is None and not path.exists():
        settings = load_settings()
        if settings.key_uri() is not None:
            return load_private_key(settings, SERVICE_KEY_NAME).public_key
        path = public_path(settings.key_path(SERVICE_KEY_NAME))
    if not path.exists():
        raise KeyUnavailable(
            f"there is no public key at {path}: make a key pair with `otpseal keys"
            " generate`, or name the file by --public-key"
        )
    return load_public_key(path)
