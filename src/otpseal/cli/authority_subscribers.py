"""`otpseal authority`: its signing keys, its subscribers and their tickets."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from otpseal.cli.authority import AuthorityDir, authority_settings
from otpseal.cli.files import replace_file
from otpseal.cli.options import AsJson, KeyFile, print_json
from otpseal.config import Settings
from otpseal.errors import ConfigurationError
from otpseal.ledger import rfc3339
from otpseal.subscribers import Delivered, Offer
from otpseal.suite import Suite
from otpseal.totp import OtpType, Parameters
from otpseal.wiring import open_authority

if TYPE_CHECKING:
    from otpseal.adapters.signing_files import SigningFiles

subscriber_app = typer.Typer(
    no_args_is_help=True, help="Say who may enrol with this authority."
)

Subscriber = Annotated[
    str, typer.Argument(metavar="SUBSCRIBER", help="A service, or who runs it.")
]


def init(
    *,
    ps256: Annotated[
        bool,
        typer.Option("--ps256", help="Sign by RSA-3072 (PS256) and not by Ed25519."),
    ] = False,
    rsa_ca: Annotated[
        bool, typer.Option("--rsa-ca", help="An RSA-3072 CA and not one of P-256.")
    ] = False,
    add_pq: Annotated[
        bool,
        typer.Option(
            "--add-pq",
            help="Make nothing but the pair of the suite pq, for an authority that has"
            " none.",
        ),
    ] = False,
    data_dir: AuthorityDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the signing keys and the CA, and write what services pin: one of two files.

    Nothing is overwritten; a pair of the suite pq that is there is kept. Give a
    service the JWKS, or the CA's certificate if the signing key is to change without a
    word to it (OTPSEAL_AUTHORITY_PINNED_BY=ca); then it takes no envelopes of the suite
    pq, for which there are no certificates.
    """
    from otpseal import wiring_authority, wiring_pq
    from otpseal.adapters.signing_files import CA_CERTIFICATE_NAME
    from otpseal.trust_book import ca_fingerprint

    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    kept = None
    if add_pq:
        wiring_pq.refuse_pq(settings)
        files = _initialised(settings, alone=not (ps256 or rsa_ca))
    else:
        # It is under no CA: who makes another CA goes on signing by this pair.
        kept = wiring_pq.load_pq(settings)
        files = wiring_authority.initialise(settings, ps256=ps256, rsa_ca=rsa_ca)
    pair = kept or wiring_pq.initialise_pq(settings)
    directory = wiring_authority.signing_directory(settings)
    keys = [files.key.public_key(), *wiring_pq.pq_public_keys(pair)]
    key_set = wiring_authority.jwks(keys)
    path = directory / wiring_authority.JWKS_NAME
    content = json.dumps(key_set, indent=2).encode("ascii") + b"\n"
    advice = "the running authority shows the same"
    replace_file(path, content, advice=advice, is_public=True)
    told = {
        "name": settings.authority_name,
        "kid": key_set["keys"][0]["kid"],
        "pq_kids": list(pair.kids),
        "jwks": str(path),
        "ca": str(directory / CA_CERTIFICATE_NAME),
        "ca_fingerprint": ca_fingerprint(files.ca_certificate),
    }
    if as_json:
        print_json(told)
        return
    typer.echo(f"authority {told['name']} signs by key {told['kid']}")
    old = " of before" if kept else ""
    typer.echo(f"envelopes of the suite pq by both of these{old}:")
    for kid in pair.kids:
        typer.echo(f"  {kid}")
    if add_pq:
        typer.echo("services that are to take the suite pq pin the keys anew")
    typer.echo("services pin one of these, and the authority's name:")
    typer.echo(f"  its keys: {told['jwks']}")
    typer.echo(f"  its CA:   {told['ca']}")
    typer.echo(f"            {told['ca_fingerprint']}")


def _initialised(settings: Settings, *, alone: bool) -> "SigningFiles":
    """Return the signing files that there are.

    Raises:
        ConfigurationError: there are none, or others are asked for.
    """
    from otpseal.wiring_authority import load_signing

    if not alone:
        raise ConfigurationError("--add-pq makes one pair alone: give it by itself")
    files = load_signing(settings)
    if files is None:
        raise ConfigurationError(
            "this authority has no signing key yet: run `otpseal authority init`, which"
            " makes the pair too"
        )
    return files


@subscriber_app.command("add")
def add(
    subscriber: Subscriber, data_dir: AuthorityDir = None, key_file: KeyFile = None
) -> None:
    """Admit a subscriber; it enrols with `otpseal authority ticket`."""
    from otpseal.wiring_authority import make_book

    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    with open_authority(settings) as opened:
        make_book(opened).add(subscriber)
    typer.echo(f"subscriber {subscriber} is admitted")


@subscriber_app.command("list")
def list_(
    data_dir: AuthorityDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List all subscribers; `--json` prints one object a line."""
    from otpseal.wiring_authority import make_book

    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    with open_authority(settings) as opened:
        subscribers = make_book(opened).all()
    for row in subscribers:
        state = "valid" if row.revoked_at is None else "revoked"
        if as_json:
            revoked_at = _time(row.revoked_at)
            told = {"subscriber": row.id, "state": state, "revoked_at": revoked_at}
            print_json({**told, "created_at": rfc3339(row.created_at)})
        else:
            typer.echo(f"{row.id}  {state}  {rfc3339(row.created_at)}")


@subscriber_app.command("revoke")
def revoke(
    subscriber: Subscriber, data_dir: AuthorityDir = None, key_file: KeyFile = None
) -> None:
    """Revoke a subscriber and all its tickets; seeds that it has it keeps."""
    from otpseal.wiring_authority import make_book

    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    with open_authority(settings) as opened:
        make_book(opened).revoke(subscriber)
    typer.echo(f"subscriber {subscriber} is revoked")


def ticket(
    subscriber: Subscriber,
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="The account's id in the service.")
    ],
    *,
    kind: Annotated[
        OtpType, typer.Option("--type", help="totp or hotp.")
    ] = OtpType.TOTP,
    algorithm: Annotated[str, typer.Option(help="SHA1, SHA256 or SHA512.")] = "SHA1",
    digits: Annotated[int, typer.Option(help="6 to 8.")] = 6,
    period: Annotated[int, typer.Option(help="Seconds of a step, 15 to 300.")] = 30,
    issuer: Annotated[str, typer.Option(help="Shown by authenticator apps.")] = "",
    label: Annotated[str, typer.Option(help="Shown by authenticator apps.")] = "",
    suite: Annotated[
        Suite,
        typer.Option(
            metavar="v1|pq",
            help="Form of the envelope; pq also holds against a quantum computer, and"
            " the service has to have pinned the JWKS.",
        ),
    ] = Suite.V1,
    data_dir: AuthorityDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a one-time ticket for one account; it is printed this once, for a day.

    Give it to the subscriber on a way that nobody else reads; there it is the file
    of `otpseal seed enrol --ticket-file`.
    """
    from otpseal.wiring_authority import make_book
    from otpseal.wiring_pq import load_pq

    parameters = Parameters(algorithm, digits, period, kind)
    offer = Offer(account, parameters, issuer, label, suite)
    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    if suite is Suite.PQ and load_pq(settings) is None:
        raise ConfigurationError(
            "this authority has no signing pair of the suite pq: run `otpseal authority"
            " init --add-pq`"
        )
    with open_authority(settings) as opened:
        made = make_book(opened).give_ticket(subscriber, offer)
    text, until = made.ticket.reveal().decode("ascii"), rfc3339(made.expires_at)
    if as_json:
        told = {"subscriber": subscriber, "account": account, "expires_at": until}
        print_json({**told, "ticket": text})
    else:
        typer.echo(f"for {account} of {subscriber}, until {until}", err=True)
        typer.echo(text)


def status(
    data_dir: AuthorityDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Show which envelopes were sent, and which of them arrived.

    An envelope is confirmed by a receipt that only who has its seed can make.
    `--json` prints one object a line.
    """
    from otpseal import signing_watch
    from otpseal.wiring_authority import make_book

    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    if (said := signing_watch.due(settings)) is not None:
        typer.echo(f"warning: {said}", err=True)
    with open_authority(settings) as opened:
        deliveries = make_book(opened).deliveries()
    if not deliveries and not as_json:
        typer.echo("no envelope was sent yet", err=True)
    for row in deliveries:
        if as_json:
            print_json(_described(row))
            continue
        said = "not confirmed"
        if row.confirmed_at is not None:
            said = f"confirmed {rfc3339(row.confirmed_at)}, their event {row.event}"
        sent = f"{row.subscriber}  {row.account}  sent {rfc3339(row.issued_at)}"
        typer.echo(f"{sent}  {said}")


def _described(row: Delivered) -> dict[str, object]:
    return {
        "subscriber": row.subscriber,
        "account": row.account,
        "suite": row.suite,
        "kid": row.kid,
        "jti": row.jti,
        "seq": row.sequence,
        "issued_at": rfc3339(row.issued_at),
        "confirmed_at": _time(row.confirmed_at),
        "event": row.event,
    }


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)
