"""Options that many commands share, and the way results are printed."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Directory of the store. [OTPSEAL_DATA_DIR, default: data]"
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help="Private key, PEM. [OTPSEAL_KEY_FILE]"),
]
Host = Annotated[
    str | None,
    typer.Option("--host", help="Address to listen on. [OTPSEAL_HOST]"),
]
Port = Annotated[
    int | None,
    typer.Option("--port", help="Port; 0 takes a free one. [OTPSEAL_PORT]"),
]
AccountId = Annotated[str, typer.Argument(metavar="[ID]", help="Which account.")]
OfAccount = Annotated[str, typer.Option("--account", help="Which account.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def print_json(content: object) -> None:
    """Print one line of JSON on stdout."""
    sys.stdout.write(json.dumps(content) + "\n")
