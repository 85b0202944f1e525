"""`otpseal seed enrol`: from a ticket to a stored seed, and a receipt for it."""

from pathlib import Path
from typing import Annotated

import typer

from otpseal import enrolment_request, subscription
from otpseal.cli import enrol_certificate
from otpseal.cli.files import replace_file
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import AuthorityUnusable, ConfigurationError
from otpseal.receipt import MAX_CHARS
from otpseal.secret_files import read_secret_file
from otpseal.wiring import open_service

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
    of use to this service's key alone from then on; the same command has the same
    seed again, until the ticket expires.
    """
    from otpseal.adapters.enrolment_client import AuthorityConnection

    challenge = _challenge(ticket_file)
    authority = AuthorityConnection(url, ca_file, insecure_http)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings) as opened:
        own_key = opened.keys.public_key
        csr = enrolment_request.make(opened.keys, challenge)
        _, key = opened.service.own_keys.receipt_key()
        answer = authority.enrol(csr, key.public_key().public_bytes_raw())
        brought = opened.service.envelopes.bring(answer.envelope)
        is_kept = enrol_certificate.keep(
            certificate_out,
            answer.certificate,
            opened=opened,
            authority=brought.authority,
            key=own_key,
        )
    _keep(receipt_out, brought.receipt)
    try:
        authority.send_receipt(brought.receipt)
    except AuthorityUnusable as error:
        raise AuthorityUnusable(
            f"the seed of {brought.row.id} is stored, but the receipt was not taken:"
            f" {error}. Then run `otpseal seed confirm URL {receipt_out}`"
        ) from None
    if as_json:
        told = {"account": brought.row.id, "authority": brought.authority}
        print_json({"status": "ok", **told, "receipt": str(receipt_out)})
    else:
        done = "stored" if brought.is_new else "replaced"
        typer.echo(
            f"the seed of {brought.row.id} by {brought.authority} is {done}, and the"
            " authority knows"
        )
    if not is_kept:
        raise typer.Exit(_NOT_KEPT)


def confirm(
    url: Url,
    receipt: Annotated[
        Path, typer.Argument(metavar="FILE", help="The receipt of `seed enrol`.")
    ],
    *,
    ca_file: CaFile = None,
    insecure_http: InsecureHttp = False,
) -> None:
    """Bring a receipt to its authority again; it may be brought more than once."""
    from otpseal.adapters.enrolment_client import AuthorityConnection

    try:
        text = receipt.read_text("ascii")[: MAX_CHARS + 1].strip()
    except (OSError, ValueError):
        raise ConfigurationError(f"{receipt} is no readable receipt") from None
    AuthorityConnection(url, ca_file, insecure_http).send_receipt(text)
    typer.echo("the authority knows")


def _challenge(ticket_file: Path) -> str:
    digest = subscription.ticket_digest(read_secret_file(ticket_file, _TICKET_FILE))
    if digest is None:
        raise ConfigurationError(
            f"{ticket_file} holds no ticket: it is one line that begins with"
            f" {subscription.TICKET_PREFIX}"
        )
    return subscription.challenge_of(digest)


def _keep(path: Path, receipt: str) -> None:
    advice = "the seed is stored, and `otpseal authority status` will not know it"
    replace_file(path, receipt.encode("ascii") + b"\n", advice=advice)
