"""`otpseal account import` and `otpseal account export`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import keypolicy, moving, travel
from otpseal.account_id import is_prefix
from otpseal.adapters.file_keys import load_public_key
from otpseal.cli.files import new_private_file
from otpseal.cli.moving_pskc import (
    AuthorityFile,
    CertificateFile,
    MaxBytes,
    PassphraseFile,
    PresharedFile,
    PskcOptions,
    RequireSignature,
    container_arrivals,
)
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.cli.progress import counted
from otpseal.config import load_settings
from otpseal.errors import ConfigurationError, FileRefused, MoveRefused
from otpseal.export import Exporter
from otpseal.formats import Format, detect, parse
from otpseal.formats.content import MAX_BYTES
from otpseal.formats.row import Entry, Fault
from otpseal.key_source import private_key_exists
from otpseal.ports import Keys
from otpseal.unlocking import SERVICE_KEY_NAME
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_exporter, make_mover

_OURS = "otpseal"
_PSKC = "pskc"
_FORMATS = (*(form.value for form in Format), _PSKC, _OURS)
_EXPORTS = (_OURS, _PSKC)
_SHOWN = 20

#: What an account is called by who asks for the plaintext of its seed.
_CONSENT = "--yes-i-know-this-writes-seeds-in-clear"


def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The accounts; - for stdin.")
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help=f"{', '.join(_FORMATS)}. [default: what it looks like]"
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Put in front of every id, such as shop/.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report, and change nothing.")
    ] = False,
    preshared_file: PresharedFile = None,
    passphrase_file: PassphraseFile = None,
    certificate: CertificateFile = None,
    ca_file: AuthorityFile = None,
    require_signature: RequireSignature = False,
    max_bytes: MaxBytes = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make accounts of all rows of a file, or of none if one of them cannot be.

    Reads otpauth URIs, CSV, the unencrypted exports of Aegis and 2FAS, the PSKC
    containers of token makers (RFC 6030), and what `otpseal account export --to`
    wrote for this service. Imported accounts are active at once.
    """
    options = PskcOptions(
        preshared_file,
        passphrase_file,
        certificate,
        ca_file,
        require_signature,
        max_bytes,
    )
    options.check()
    if prefix and not is_prefix(prefix):
        raise ConfigurationError("--prefix is an id with a slash at its end: shop/")
    if format_ is not None and format_ not in _FORMATS:
        raise ConfigurationError(f"--format is one of {', '.join(_FORMATS)}")
    content = _read(file)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    has_key = private_key_exists(settings, SERVICE_KEY_NAME)
    with open_service(settings, create=has_key, one_shot=True) as opened:
        arrivals = _arrivals(content, format_, options, opened.keys)
        with counted("sealing", len(arrivals)) as told:
            done = make_mover(opened).bring(
                arrivals, prefix=prefix, dry_run=dry_run, told=told
            )
    _report(done, as_json=as_json)
    if done.refused:
        raise MoveRefused(
            f"{len(done.refused)} of {len(done.rows)} rows cannot be imported, so none"
            " was"
        )
    if not as_json:
        told_as = "imported" if done.stored else "can be imported; nothing was changed"
        typer.echo(f"{len(done.rows)} accounts {told_as}")


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None


def _arrivals(
    content: bytes, form: str | None, options: PskcOptions, keys: Keys
) -> list[moving.Arrival | Fault]:
    form = form or _seen(content)
    if form != _PSKC:
        options.require_unused()
    if form == _PSKC:
        found = container_arrivals(content, options, keys)
    elif form == _OURS:
        if len(content) > MAX_BYTES:
            raise FileRefused("the file is larger than 64 MiB: split it")
        with counted("opening", content.count(b"\n")) as told:
            found = moving.open_travellers(content, keys, told=told)
    else:
        rows = parse(content, Format(form))
        found = [moving.arrival(r) if isinstance(r, Entry) else r for r in rows]
    if not found:
        raise FileRefused("the file holds no accounts")
    return found


def _seen(content: bytes) -> str:
    """Return the format that a file looks like.

    Raises:
        FileRefused: it looks like none.
    """
    text = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(travel.START):
        return _OURS
    # No other format begins so.
    return _PSKC if text.startswith(b"<") else detect(content).value


def _report(done: moving.Moved, *, as_json: bool) -> None:
    if as_json:
        for row in done.rows:
            became = {"line": row.line, "account": row.account}
            print_json({**became, "result": row.reason or "new"})
        return
    refused = done.refused
    # Of a good file a few are enough to see by which names they go.
    for row in refused or done.rows[:_SHOWN]:
        name = row.account or "(no id)"
        typer.echo(f"line {row.line}: {name}: {row.reason or 'new'}")
    if not refused and len(done.rows) > _SHOWN:
        typer.echo(f"... and {len(done.rows) - _SHOWN} more (--json lists all)")


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where it goes; - for stdout.")
    ],
    accounts: Annotated[
        list[str] | None,
        typer.Option("--account", help="Only this one; may be repeated."),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Only accounts that begin so, such as shop/.")
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option(metavar="PUBLIC_KEY", help="Seal the seeds to this key, PEM."),
    ] = None,
    format_: Annotated[
        str,
        typer.Option("--format", help=f"With --to: {', '.join(_EXPORTS)}."),
    ] = _OURS,
    plaintext: Annotated[
        bool,
        typer.Option("--plaintext", help="Write otpauth URIs, seeds in clear."),
    ] = False,
    consent: Annotated[
        bool, typer.Option(_CONSENT, help="Needed for --plaintext.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE if it exists.")
    ] = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
) -> None:
    """Write accounts out for another service, their seeds sealed to its public key.

    They stay here, too: disable them, or a code is accepted once by each service.
    `--format pskc` is for other programs: it carries no status and no spent steps.
    """
    if format_ not in _EXPORTS:
        raise ConfigurationError(f"--format is one of {', '.join(_EXPORTS)}")
    if plaintext and format_ != _OURS:
        raise ConfigurationError("--plaintext writes otpauth URIs, and no --format")
    if plaintext == (to is not None) or plaintext != consent:
        raise ConfigurationError(
            "give --to PUBLIC_KEY; or, for seeds that anyone can read, --plaintext and"
            f" {_CONSENT}"
        )
    if plaintext and file == "-" and sys.stdout.isatty():
        raise ConfigurationError(
            "seeds in clear are not written to a terminal, which remembers them: name"
            " a file"
        )
    key = None if to is None else load_public_key(to)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        exporter = make_exporter(opened)
        names = exporter.chosen(accounts or (), prefix=prefix)
        with (
            new_private_file(file, force=force) as stream,
            counted("accounts", len(names)) as told,
        ):
            lines = _lines(exporter, names, key, format_)
            for count, line in enumerate(lines, start=1):
                stream.write(line.encode() + b"\n")
                told(count)
    typer.echo(f"{len(names)} accounts written", err=True)


def _lines(
    exporter: Exporter, names: list[str], key: RSAPublicKey | None, form: str
) -> Iterator[str]:
    if key is None:
        return exporter.plaintext(names)
    kid = keypolicy.key_id(key)
    if form == _OURS:
        return exporter.sealed(names, key, kid)
    from otpseal.formats.pskc.writer import ContainerWriter

    return exporter.container(names, ContainerWriter(key, kid))
