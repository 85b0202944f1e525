"""Who may call the v1 API: bearer tokens and client certificates with their scopes.

A caller is known by 32 bytes, the digest of what it presents: SHA-256 of its token,
or a domain-separated SHA-256 of a name in its client certificate (RFC 5280 section
4.2.1.6). Tokens carry 256 random bits, so that a plain hash is enough at rest.

Leaves out: where callers rest, and how often they may be wrong
(`otpseal.verification`).
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otpseal import base64url
from otpseal.errors import Forbidden, Unauthenticated
from otpseal.secret import Secret

TOKEN_PREFIX: Final = "otpseal_"  # noqa: S105 - what secret scanners look for
TOKEN_BYTES: Final = 32

_TOKEN: Final = re.compile(TOKEN_PREFIX.encode() + rb"[A-Za-z0-9_-]{43}")
_CERTIFICATE_TAG: Final = b"otpseal client certificate v1\0"
#: As `http.protocol` hands them on.
_CERTIFICATE_NAME: Final = re.compile(r"(DNS|URI|email):[!-~]{1,253}", re.ASCII)


class Scope(StrEnum):
    """What a caller may do."""

    VERIFY = "verify"
    """Check codes and recovery codes."""

    CODE = "code"
    """Ask for the current code."""

    IMPORT = "import"
    """Bring sealed seeds for new accounts."""

    ACCOUNTS = "accounts"
    """Create, confirm, list, enable, disable and resynchronise accounts, and make
    recovery codes: all that a help desk does. Who has it can get round the factor."""

    AUDIT = "audit"
    """Read audit events."""

    ADMIN = "admin"
    """All of the above; and delete accounts and replace seeds."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call.

    Attributes:
        id: public name, for audit events and revocation.
        name: what an administrator called it.
        digest: 32 bytes that what it presents is known by.
        scopes: what it may do.
        prefix: the accounts it may touch begin so; ends in "/", or "" for all.
        created_at: Unix seconds.
        expires_at: Unix seconds, or None for never.
        revoked_at: Unix seconds, or None.
        strangers: unknown accounts that it has been wrong about lately.
    """

    id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    prefix: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    strangers: int = 0

    def has(self, account: str) -> bool:
        """Tell whether an account is on this caller's side of the fence."""
        return account.startswith(self.prefix)


def new_token(random: bytes) -> Secret:
    """Return the token of `TOKEN_BYTES` random bytes: prefix, then base64url."""
    if len(random) != TOKEN_BYTES:
        raise ValueError(f"a token has {TOKEN_BYTES} random bytes")
    return Secret(f"{TOKEN_PREFIX}{base64url.encode(random)}".encode("ascii"))


def token_digest(token: bytes) -> bytes | None:
    """Return what a presented token is known by; None if it is no token of ours."""
    if not _TOKEN.fullmatch(token):
        return None
    return hashlib.sha256(token).digest()


def certificate_digest(name: str) -> bytes | None:
    """Return what a certificate's name (`DNS:`, `URI:` or `email:`) is known by.

    The case of DNS names means nothing (RFC 4343): a name and its capitals are one,
    so that no second caller goes on when the first is revoked.
    """
    if not _CERTIFICATE_NAME.fullmatch(name):
        return None
    if name.startswith("DNS:"):
        name = "DNS:" + name[4:].lower()
    return hashlib.sha256(_CERTIFICATE_TAG + name.encode("ascii")).digest()


def admit(caller: Caller | None, scope: Scope, now: float) -> Caller:
    """Return the caller if it may use `scope` at `now`.

    Raises:
        Unauthenticated: unknown, revoked or expired; which of them is not told.
        Forbidden: known, but without that scope.
    """
    if (
        caller is None
        or caller.revoked_at is not None
        or (caller.expires_at is not None and caller.expires_at <= now)
    ):
        raise Unauthenticated("Unauthorized")
    if scope not in caller.scopes and Scope.ADMIN not in caller.scopes:
        raise Forbidden(f"This needs the scope {scope.value}")
    return caller
