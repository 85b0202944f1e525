"""Where an authority answers: which addresses are asked, and which CAs are believed.

TLS 1.2 or later with a certificate that is valid for the host; plain http is for
this machine's loopback, or asked for in so many words.
"""

import ipaddress
import logging
import ssl
from pathlib import Path
from typing import Final

import httpx2

from otpseal.errors import AuthorityUnusable, ConfigurationError

#: How much of the authority's own error text is shown, in characters.
MAX_SHOWN_CHARS: Final = 200

#: None: the scheme's own.
_PORTS: Final = {None, *range(1, 65536)}
_log = logging.getLogger("otpseal")


def checked_url(text: str) -> httpx2.URL:
    """Parse the authority's address.

    Raises:
        AuthorityUnusable: it is no http or https URL, or holds a password.
    """
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        raise AuthorityUnusable("the authority's address is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise AuthorityUnusable(
            "the authority's address must begin with https:// (or http://) and name"
            " a host"
        )
    if url.port not in _PORTS:
        raise AuthorityUnusable("the port in the authority's address is no port")
    if url.userinfo:
        raise AuthorityUnusable(
            "the authority's address must not hold a user name or password"
        )
    return url


def check_scheme(url: httpx2.URL, *, has_ca: bool, insecure_http: bool) -> None:
    """Refuse plain http where others could sit on the way.

    Args:
        url: the authority's.
        has_ca: whether a CA was named, which http has no use for.
        insecure_http: whether the user said that he wants it all the same.

    Raises:
        AuthorityUnusable: says what to do.
    """
    if url.scheme != "http":
        return
    if has_ca:
        raise AuthorityUnusable(
            "plain http shows no certificate that --ca-file could verify: give the"
            " authority's address as https://"
        )
    if is_loopback(url.host):
        return
    if not insecure_http:
        raise AuthorityUnusable(
            f"{shown(url.host)} is not asked over plain http: whoever sits on the way"
            " can bind your name to his own key, or hand you a seed that he knows."
            " Use https://, or --insecure-http if something else guards the way"
        )
    _log.warning(
        "%s is asked over plain http: whoever sits on the way can bind your"
        " name to his own key, or hand you a seed that he knows; use https",
        shown(url.host),
    )


def trusting(ca_file: Path) -> ssl.SSLContext:
    """Return how TLS is spoken if the CAs of a file are trusted, and no others.

    Raises:
        ConfigurationError: there are none in the file.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:  # an OSError, too
        raise ConfigurationError(
            f"--ca-file: {ca_file} must hold CA certificates in PEM form"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"--ca-file: {ca_file} cannot be read: {error.strerror}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(text: object) -> str:
    """Return a stranger's text fit for a terminal: printable ASCII, not too long."""
    if not isinstance(text, str):
        return ""
    cut = text[:MAX_SHOWN_CHARS]
    return "".join(char if " " <= char <= "~" else "?" for char in cut)
