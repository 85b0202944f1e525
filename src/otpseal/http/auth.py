"""Who may call the classic API: everyone, the holder of one token, or nobody."""

import hashlib
import hmac

from otpseal.config import Access
from otpseal.http.wire import BadRequest, Refusal, Scope, headers_named
from otpseal.secret import Secret

_UNAUTHORIZED = Refusal(401, "Unauthorized", (b"www-authenticate", b"Bearer"))
_OFF = Refusal(404, "Not found")


class Gate:
    """Admits a request or raises the answer.

    Args:
        access: the policy.
        token: the bearer token, for `Access.TOKEN`.
    """

    def __init__(self, access: Access, token: Secret | None = None) -> None:
        self._access = access
        self._digest = _digest(token.reveal()) if token is not None else None

    def admit(self, scope: Scope) -> None:
        """Return if the request may go on.

        Raises:
            BadRequest: 401 for a missing or wrong token, 404 if the API is off.
        """
        if self._access is Access.OPEN:
            return
        if self._access is Access.OFF:
            raise BadRequest(_OFF)
        values = headers_named(scope, b"authorization")
        if self._digest is None or len(values) != 1:
            raise BadRequest(_UNAUTHORIZED)
        scheme, _, token = values[0].partition(b" ")
        # Digests, so that the comparison's time says nothing of the length either.
        genuine = hmac.compare_digest(self._digest, _digest(token.strip()))
        if scheme.lower() != b"bearer" or not genuine:
            raise BadRequest(_UNAUTHORIZED)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
