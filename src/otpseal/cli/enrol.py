"""`otpseal seed enrol`: from a ticket to a stored seed, and a receipt for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otpseal import enrolment_request, subscription
from otpseal.cli import enrol_certificate
from otpseal.cli.files import replace_file
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.envelope_acceptance import Brought
from otpseal.envelopes import Recalled
from otpseal.errors import (
    AuthorityUnusable,
    ConfigurationError,
    EnvelopeRefused,
    EnvelopeReplayed,
)
from otpseal.receipt import MAX_CHARS
from otpseal.secret_files import read_secret_file
from otpseal.suite import Suite
from otpseal.wiring import OpenedService, open_service

if TYPE_CHECKING:
    from otpseal.adapters.enrolment_client import Answer, AuthorityConnection

Url = Annotated[str, typer.Argument(metavar="URL", help="Where the authority answers.")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="OTPSEAL_AUTHORITY_CA_FILE",
        help="CA certificates, PEM, that the authority's TLS must be by. Default: the"
        " system's.",
    ),
]
InsecureHttp = Annotated[
    bool,
    typer.Option(
        "--insecure-http",
        help="Allow http:// beyond this machine, where others may read along.",
    ),
]
_TICKET_FILE = "--ticket-file"
#: Exit code if all is done but for a certificate that is not as it should be.
_NOT_KEPT = 5


def enrol(
    url: Url,
    *,
    ticket_file: Annotated[
        Path,
        typer.Option(_TICKET_FILE, metavar="FILE", help="The ticket, on one line."),
    ],
    receipt_out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where the receipt is kept."),
    ] = Path("receipt.jws"),
    certificate_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the certificate of this service's key goes, if the authority"
            " gives one and it verifies.",
        ),
    ] = None,
    ca_file: CaFile = None,
    insecure_http: InsecureHttp = False,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a ticket to an authority, import the seed that it seals, and confirm it.

    The authority must be pinned first (`otpseal authority trust add`). Its ticket is
    of use to this service's key alone from then on. If anything fails, run the same
    command again while the ticket lasts: it goes on where it was.
    """
    from otpseal.adapters.enrolment_client import AuthorityConnection

    challenge = _challenge(ticket_file)
    authority = AuthorityConnection(url, ca_file, insecure_http)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings) as opened:
        own_key = opened.keys.public_key
        answer = _asked(opened, authority, challenge)
        found = _brought(opened, answer.envelope)
        is_kept = enrol_certificate.keep(
            certificate_out,
            answer.certificate,
            opened=opened,
            authority=found.authority,
            key=own_key,
        )
    _keep(receipt_out, found.receipt)
    try:
        authority.send_receipt(found.receipt)
    except AuthorityUnusable as error:
        raise AuthorityUnusable(
            f"the seed of {found.account} is stored, but the receipt was not taken:"
            f" {error}. Then run `otpseal seed confirm URL {receipt_out}`"
        ) from None
    if as_json:
        told = {"account": found.account, "authority": found.authority}
        print_json({"status": "ok", **told, "receipt": str(receipt_out)})
    else:
        typer.echo(f"the seed of {found.account} by {found.authority} {_done(found)}")
    if not is_kept:
        raise typer.Exit(_NOT_KEPT)


def _asked(
    opened: OpenedService, authority: "AuthorityConnection", challenge: str
) -> "Answer":
    """Ask for the ticket's envelope; the request names what travels beside it."""
    own = opened.service.own_keys
    kid, key = own.receipt_key()
    pq = own.pq_import_key() if Suite.PQ in opened.service.suites else None
    named = [kid] if pq is None else [kid, pq.kid]
    csr = enrolment_request.make(opened.keys, challenge, named)
    return authority.enrol(
        csr, key.public_key().public_bytes_raw(), None if pq is None else pq.raw
    )


def _brought(opened: OpenedService, envelope: str) -> Brought | Recalled:
    """Import the envelope's seed, or find the receipt of when that was done."""
    try:
        found = opened.service.envelopes.bring_or_recall(envelope)
    except EnvelopeRefused:
        typer.echo(
            "compare `otpseal authority trust list` with what the authority's operator"
            " says: its name, and its keys now (for the suite pq its JWKS, not its CA)",
            err=True,
        )
        raise
    if isinstance(found, Recalled) and not found.has_seed:
        # A receipt says that the seed arrived; this one did, and went.
        raise EnvelopeReplayed(
            f"the seed of {found.account} was stored before, and is not there any"
            " more: ask the authority's operator for a new ticket"
        )
    return found


def confirm(
    url: Url,
    receipt: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The receipt, of `seed enrol` or `seed receipt`."
        ),
    ],
    *,
    ca_file: CaFile = None,
    insecure_http: InsecureHttp = False,
) -> None:
    """Bring a receipt to its authority again; it may be brought more than once."""
    from otpseal.adapters.enrolment_client import AuthorityConnection

    try:
        text = receipt.read_text("ascii")[: MAX_CHARS + 1].strip()
    except OSError as error:
        raise ConfigurationError(
            f"{receipt} cannot be read: {error.strerror}. `otpseal seed receipt --out`"
            " writes a receipt again"
        ) from None
    except ValueError:
        raise ConfigurationError(f"{receipt} holds no receipt") from None
    AuthorityConnection(url, ca_file, insecure_http).send_receipt(text)
    typer.echo("the authority knows")


def _done(found: Brought | Recalled) -> str:
    if isinstance(found, Recalled):
        return "was stored before; the authority knows now"
    done = "stored" if found.is_new else "replaced"
    return f"is {done}, and the authority knows"


def _challenge(ticket_file: Path) -> str:
    digest = subscription.ticket_digest(read_secret_file(ticket_file, _TICKET_FILE))
    if digest is None:
        raise ConfigurationError(
            f"{ticket_file} holds no ticket: it is one line that begins with"
            f" {subscription.TICKET_PREFIX}"
        )
    return subscription.challenge_of(digest)


def _keep(path: Path, receipt: str) -> None:
    advice = "the seed is stored: run the same command again"
    replace_file(path, receipt.encode("ascii") + b"\n", advice=advice)
