"""The certificate of `otpseal seed enrol --certificate-out`: kept if it is ours.

Never raises a deliberate error: the seed is stored by then, and its receipt has still
to be sent.
"""

import time
from pathlib import Path

import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import own_certificate
from otpseal.cli.files import replace_file
from otpseal.errors import KeyRefused, OtpsealError
from otpseal.ports import Clock
from otpseal.unlocking import Opened
from otpseal.wiring_admin import make_trust_book


def keep(
    path: Path | None,
    given: str | None,
    *,
    opened: Opened,
    authority: str,
    key: RSAPublicKey,
    clock: Clock = time.time,
) -> bool:
    """Write the certificate if it is of our key; tell whether all is well.

    What is not well is said on stderr.

    Args:
        path: where it goes; None if it is not wanted.
        given: what the authority gave; None if nothing.
        opened: the service's store.
        authority: who sealed the seed that came with it.
        key: the import key of the request.
        clock: gives the Unix time.
    """
    if path is None:
        return True
    if given is None:
        _say(f"note: {authority} gives no certificates, and {path} is not written")
        return True
    try:
        ca = _pinned_ca(opened, authority)
        pem = own_certificate.check(given, key=key, ca=ca, now=clock())
        replace_file(path, pem, advice="run the same command again")
    except OtpsealError as error:
        _say(
            f"warning: the certificate that {authority} gave is not written to {path}:"
            f" {error}"
        )
        return False
    if ca is None:
        _say(
            f"note: {authority} is pinned by its keys, so who issued {path} was not"
            " checked; that it is of this service's key was"
        )
    return True


def _pinned_ca(opened: Opened, authority: str) -> x509.Certificate | None:
    for pin in make_trust_book(opened).all():
        if pin.authority.name == authority and pin.genuine:
            return pin.authority.ca
    raise KeyRefused("the authority is pinned no longer")


def _say(text: str) -> None:
    typer.echo(text, err=True)
