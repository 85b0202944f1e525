"""`otpseal proof`: make and check commit proofs."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from otpseal import keypolicy, proof, unlocking
from otpseal.adapters import file_keys
from otpseal.cli.authority import authority_settings
from otpseal.cli.files import replace_file
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import ConfigurationError, ProofRefused
from otpseal.key_source import load_private_key

app = typer.Typer(
    no_args_is_help=True, help="Make and check proofs of having made a commit."
)

_MAX_PROOF_BYTES = 4096


@app.command()
def create(
    *,
    commit: Annotated[
        str | None, typer.Option(help="Full commit hash. Default: HEAD of this tree.")
    ] = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    authority_key: Annotated[
        Path, typer.Option(help="The authority's public key, which the proof is for.")
    ] = Path("instructor_public.pem"),
    out: Annotated[
        Path | None, typer.Option(help="Write the proof to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a commit hash and seal the signature to the authority's key."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    authority = file_keys.load_public_key(authority_key)
    signer = load_private_key(settings, unlocking.SERVICE_KEY_NAME)
    commit = commit if commit is not None else _head()
    sealed = proof.create(commit, signer=signer, authority_key=authority)
    if _is_dirty():
        typer.echo(
            "warning: the working tree has changes or files that are in no commit:"
            " the proof does not cover them",
            err=True,
        )
    if out is not None:
        replace_file(
            out, f"{sealed}\n".encode("ascii"), advice="name another place by --out"
        )
    if as_json:
        print_json({"commit": commit, "proof": sealed})
        return
    typer.echo(f"Commit Hash: {commit}")
    if out is None:
        typer.echo(f"Encrypted Signature: {sealed}")
    else:
        typer.echo(f"Encrypted Signature written to {out}")


@app.command()
def verify(
    *,
    proof_file: Annotated[
        str, typer.Option("--proof", help="File with the proof, or - for stdin.")
    ],
    commit: Annotated[str, typer.Option(help="Full commit hash.")],
    authority_private_key: Annotated[
        Path | None, typer.Option(help="The authority's private key, which opens.")
    ] = None,
    public_key: Annotated[
        Path, typer.Option(help="Public key of the service that signed.")
    ] = Path("student_public.pem"),
    as_json: AsJson = False,
) -> None:
    """Open a proof with the authority's key and check who signed which commit."""
    settings = authority_settings(key_file=authority_private_key)
    signer_key = file_keys.load_public_key(public_key)
    sealed = _read(proof_file)
    authority = load_private_key(settings, unlocking.AUTHORITY_KEY_NAME)
    proof.verify(sealed, commit, decrypt=authority.oaep_decrypt, signer_key=signer_key)
    kid = keypolicy.key_id(signer_key)
    if as_json:
        print_json({"valid": True, "commit": commit, "kid": kid})
        return
    typer.echo(f"valid: commit {commit} is signed by key {kid}")


def _git(*arguments: str) -> bytes | None:
    """Return what git prints, or None if it fails; it says nothing to the user."""
    program = shutil.which("git")
    if program is None:
        return None
    ran = subprocess.run(  # noqa: S603 - the arguments are ours, there is no shell
        [program, *arguments], capture_output=True, check=False
    )
    return ran.stdout.strip() if ran.returncode == 0 else None


def _head() -> str:
    head = _git("rev-parse", "--verify", "HEAD^{commit}")
    if head is None:
        raise ProofRefused(
            "git names no commit here: run this in a repository with a commit, or"
            " give the full hash by --commit"
        )
    return head.decode("ascii")


def _is_dirty() -> bool:
    return bool(_git("status", "--porcelain"))


def _read(proof_file: str) -> str:
    try:
        if proof_file == "-":
            content = sys.stdin.buffer.read(_MAX_PROOF_BYTES)
        else:
            with Path(proof_file).open("rb") as file:
                content = file.read(_MAX_PROOF_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"the proof {proof_file} cannot be read: {error.strerror}"
        ) from None
    # Any byte has a character in Latin-1; base64 refuses the foreign ones.
    return content.decode("latin-1")
