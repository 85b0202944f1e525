"""`otpseal authority`: run an authority, and mend a binding."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from otpseal import keypolicy
from otpseal.adapters.file_keys import load_public_key
from otpseal.cli.options import KeyFile
from otpseal.cli.progress import search_shown
from otpseal.config import Settings, load_settings
from otpseal.key_source import private_key_exists
from otpseal.unlocking import AUTHORITY_KEY_BITS, AUTHORITY_KEY_NAME
from otpseal.wiring import open_authority

#: Other than the service's, so that both run in one directory with no setting.
DEFAULT_DATA_DIR: Final = Path("data/authority")
DEFAULT_PORT: Final = 8081

app = typer.Typer(
    no_args_is_help=True, help="Run an authority, which issues sealed seeds."
)

AuthorityDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Directory of the authority's own store."
        f" [OTPSEAL_DATA_DIR, default: {DEFAULT_DATA_DIR}]",
    ),
]


def authority_settings(**overrides: object) -> Settings:
    """Make the authority's settings: as the service's, with its own defaults.

    Raises:
        ConfigurationError: names the variable, never its value.
    """
    settings = load_settings(**overrides)
    defaults = {"data_dir": DEFAULT_DATA_DIR, "port": DEFAULT_PORT}
    unset = defaults.keys() - settings.model_fields_set
    return settings.model_copy(update={name: defaults[name] for name in unset})


@app.command()
def serve(
    data_dir: AuthorityDir = None,
    key_file: KeyFile = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on. [OTPSEAL_HOST, default: 127.0.0.1]"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help=f"Port; 0 takes a free one. [OTPSEAL_PORT, default: {DEFAULT_PORT}]"
        ),
    ] = None,
    key_bits: Annotated[
        int,
        typer.Option(
            min=keypolicy.MIN_KEY_BITS,
            max=keypolicy.MAX_KEY_BITS,
            help="Size of the key that is made for an empty store. To receive commit"
            " proofs from 4096-bit signers it needs 4624 at least.",
        ),
    ] = AUTHORITY_KEY_BITS,
) -> None:
    """Run the authority until SIGTERM or Ctrl-C.

    On the first start with an empty data directory it makes its key. The classic
    protocol knows no authentication: whoever reaches the address can ask for seeds.
    """
    from otpseal import signing_watch
    from otpseal.http.authority import create_authority_app
    from otpseal.http.guard import HostGuard
    from otpseal.http.server import bind, run, url_of
    from otpseal.http.tls import server_context

    settings = authority_settings(
        data_dir=data_dir, key_file=key_file, host=host, port=port
    )
    # What can be refused at once is refused before the long search for primes.
    tls = server_context(settings)
    signing = signing_watch.watch(settings)
    listener = bind(settings.host, settings.port)
    url = url_of(listener, tls=tls is not None)
    making = not private_key_exists(settings, AUTHORITY_KEY_NAME)
    with contextlib.ExitStack() as stack:
        with search_shown(key_bits) if making else contextlib.nullcontext():
            opened = stack.enter_context(
                open_authority(settings, new_key_bits=key_bits)
            )
        days = settings.audit_retention_days

        def daily() -> None:
            if signing is not None:
                signing.warn()
            opened.audit.prune(days)

        application = create_authority_app(
            opened.authority,
            desk=None if signing is None else partial(signing.desk, opened),
            jwks=None if signing is None else signing.jwks,
            classic=settings.authority_classic,
            prune=daily,
        )
        run(
            HostGuard(application, settings.allowed_hosts, form={"status": "error"}),
            listener,
            on_ready=lambda: typer.echo(f"authority ready on {url}/"),
            tls=tls,
        )


@app.command()
def rebind(
    student_id: Annotated[
        str, typer.Option(help="The subscriber, byte for byte as he asked.")
    ],
    repo_url: Annotated[
        str, typer.Option(help="The repository, byte for byte as he asked.")
    ],
    public_key: Annotated[
        Path, typer.Option(metavar="FILE", help="The new public key, PEM.")
    ],
    data_dir: AuthorityDir = None,
    key_file: KeyFile = None,
) -> None:
    """Bind a subscriber to another public key; his seed stays the same.

    For a lost key. Make sure who asks: the seed is sealed to the new key from now on.
    The audit log keeps it.
    """
    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    pem = keypolicy.public_pem(load_public_key(public_key))
    with open_authority(settings) as opened:
        kid = opened.authority.rebind(student_id, repo_url, pem)
    typer.echo(f"bound to key {kid}")
