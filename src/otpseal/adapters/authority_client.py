"""The authority's client: asks for a sealed seed and believes nothing of the answer.

What it must not do for a broken or hostile authority: wait for ever, fill the memory,
follow it elsewhere, print its escape sequences, or hand on what is no sealed seed.
Nor speak to whoever sits on the way: TLS 1.2 or later with a certificate that is valid
for the host by the system's CAs, or by those of a file alone; plain http is for this
machine's loopback, or asked for in so many words.
"""

import asyncio
import base64
import binascii
import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import keypolicy
from otpseal.adapters.authority_address import (
    check_scheme,
    checked_url,
    is_loopback,
    shown,
    trusting,
)
from otpseal.errors import AuthorityUnusable

#: Largest reply that is read, in bytes; a good one has under 2 KiB.
MAX_REPLY_BYTES: Final = 64 * 1024

#: The connection was not made, or was lost before an answer began. Asking again is
#: safe: the same request gives the same seed.
_NO_CONNECTION: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProxyError,
    httpx2.ReadError,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
)

_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_log = logging.getLogger("otpseal")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the client waits, in seconds.

    Attributes:
        connect_s: for a connection.
        total_s: for the whole exchange, a second try included: a server that sends
            a byte now and then gets no more.
        retry_after_s: between a failed connection and the second try.
    """

    connect_s: float = 5.0
    total_s: float = 30.0
    retry_after_s: float = 1.0


DEFAULT_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    location: str
    body: bytes


def request_sealed_seed(
    url: str,
    *,
    student_id: str,
    github_repo_url: str,
    public_key: bytes,
    ca_file: Path | None = None,
    insecure_http: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
) -> str:
    """Return the seed that the authority seals to `public_key`, in base64.

    Not to be called from a running event loop.

    Args:
        url: where the authority answers: https; http on loopback.
        student_id: the subscriber; the authority compares it byte for byte.
        github_repo_url: the repository, likewise.
        public_key: PEM.
        ca_file: CA certificates, PEM, that are trusted instead of the system's.
        insecure_http: whether plain http is spoken to other machines too.
        patience: how long to wait.

    Raises:
        KeyRefused: a public key that the policy does not accept; nothing was sent.
        ConfigurationError: the CA file is none; nothing was sent.
        AuthorityUnusable: says what to do.
    """
    key = keypolicy.parse_public_key(public_key)
    request = {
        "student_id": student_id,
        "github_repo_url": github_repo_url,
        # Written anew: a file may hold a private key beside the public one.
        "public_key": keypolicy.public_pem(key).decode("ascii"),
    }
    content = ask(
        url, request, ca_file=ca_file, insecure_http=insecure_http, patience=patience
    )
    return _sealed_seed(content, key)


def ask(
    url: str,
    request: Mapping[str, str],
    *,
    ca_file: Path | None = None,
    insecure_http: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
) -> Mapping[str, Any]:
    """Post a request that may be sent twice; return the object of a good answer.

    Args and errors are those of `request_sealed_seed`; nothing of what is in the
    answer is believed but that it is one.
    """
    content = json.dumps(request).encode("ascii")
    address = checked_url(url)
    check_scheme(address, has_ca=ca_file is not None, insecure_http=insecure_http)
    trust = None if ca_file is None else trusting(ca_file)
    reply = asyncio.run(_exchange(address, content, trust, patience))
    return _checked_reply(reply)


async def _exchange(
    url: httpx2.URL, content: bytes, trust: ssl.SSLContext | None, patience: Patience
) -> _Reply:
    host = shown(url.host)
    try:
        # One deadline over everything: httpx2's own count each read apart.
        async with asyncio.timeout(patience.total_s):
            try:
                return await _post(url, content, trust, patience)
            except _NO_CONNECTION as error:
                _refuse_certificate(error, host)
                _log.info("no connection to %s; trying once more", host)
                await asyncio.sleep(patience.retry_after_s)
                return await _post(url, content, trust, patience)
    except _NO_CONNECTION as error:
        reason = shown(str(error)).rstrip(".") or type(error).__name__
        raise AuthorityUnusable(
            f"no connection to the authority at {host}: {reason}. Check the address,"
            " http or https included, and that the authority runs"
        ) from None
    except (TimeoutError, httpx2.TimeoutException):
        raise AuthorityUnusable(
            f"the authority at {host} gave no whole answer within"
            f" {patience.total_s:g} s: try again later"
        ) from None
    except httpx2.HTTPError as error:
        raise AuthorityUnusable(
            f"the request to {host} failed: {shown(str(error))}"
        ) from None


def _refuse_certificate(error: httpx2.HTTPError, host: str) -> None:
    """Raise if that is why there is no connection: a second try gives no other."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise AuthorityUnusable(
                f"the certificate that {host} shows is not accepted:"
                f" {shown(cause.verify_message).rstrip('.')}. Check the address; if the"
                " authority has a CA of its own, get its certificate from the operator"
                " and name it by --ca-file"
            ) from None
        cause = cause.__cause__ or cause.__context__


async def _post(
    url: httpx2.URL, content: bytes, trust: ssl.SSLContext | None, patience: Patience
) -> _Reply:
    client = httpx2.AsyncClient(
        verify=True if trust is None else trust,  # True: the system's CAs
        timeout=httpx2.Timeout(patience.total_s, connect=patience.connect_s),
        follow_redirects=False,
        # A proxy from the environment cannot reach this machine's own loopback.
        trust_env=not is_loopback(url.host),
    )
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "otpseal",
    }
    async with (
        client,
        client.stream("POST", url, content=content, headers=headers) as response,
    ):
        location = response.headers.get("location", "")
        body = await _read(response)
    return _Reply(response.status_code, location, body)


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    try:
        # Raw: a compressed reply could unfold to any size.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                raise AuthorityUnusable(
                    f"the authority's answer is larger than {MAX_REPLY_BYTES} bytes:"
                    " check that the address is an authority's"
                )
    except httpx2.HTTPError:
        raise AuthorityUnusable("the authority's answer broke off: try again") from None
    return bytes(body)


def _checked_reply(reply: _Reply) -> Mapping[str, Any]:
    if reply.status in _REDIRECTS:
        raise AuthorityUnusable(
            f"the authority redirects (HTTP {reply.status}) to"
            f" {shown(reply.location) or 'nowhere'}: redirects are not followed; if"
            " you trust that address, give it as the URL"
        )
    try:
        content = json.loads(reply.body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AuthorityUnusable(
            f"the answer (HTTP {reply.status}) is not a JSON object: check that the"
            " address is an authority's"
        )
    if reply.status != _OK or content.get("status", "success") != "success":
        told = shown(content.get("error") or content.get("detail"))
        raise AuthorityUnusable(
            f"the authority refused (HTTP {reply.status}):"
            f" {told or 'it gave no reason'}"
        )
    return content


def _sealed_seed(content: Mapping[str, Any], key: RSAPublicKey) -> str:
    sealed = content.get("encrypted_seed")
    key_bytes = (key.key_size + 7) // 8
    expected_chars = (key_bytes + 2) // 3 * 4
    if not isinstance(sealed, str) or not _encodes(sealed, key_bytes):
        raise AuthorityUnusable(
            f"the answer's encrypted_seed is not {expected_chars} characters of"
            f" base64, as one for this {key.key_size}-bit key is: it is not kept;"
            " ask the authority's operator"
        )
    return sealed


def _encodes(text: str, length: int) -> bool:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return False
    # Encoding it back refuses the texts that are read alike, but not written so.
    return len(raw) == length and base64.b64encode(raw).decode("ascii") == text
