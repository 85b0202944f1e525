"""What a caller of the v1 API presents: a bearer token, or a client certificate.

Only its digest goes on from here. Whether anybody is known by it is decided inside the
transaction of the action (`otpseal.callers.enter`, `otpseal.decider`), so that a
revocation holds from the next request on.
"""

from otpseal import access
from otpseal.errors import Forbidden, Unauthenticated
from otpseal.http.v1_problems import UNAUTHENTICATED, Refused
from otpseal.http.wire import PEER_NAMES, Scope, headers_named
from otpseal.service import Service


def presented(scope: Scope) -> list[bytes]:
    """Return the digest of a token, or else those of a certificate's names.

    With an Authorization header the certificate is not looked at: who names himself
    twice is whom he says last, or nobody.

    Raises:
        Refused: 401, as for an unknown token, if nothing well-formed is presented.
    """
    values = headers_named(scope, b"authorization")
    if values:
        scheme, _, token = values[0].partition(b" ")
        digest = access.token_digest(token.strip(b" "))
        if len(values) > 1 or scheme.lower() != b"bearer" or digest is None:
            raise Refused(UNAUTHENTICATED)
        return [digest]
    names = scope.get("extensions", {}).get(PEER_NAMES, ())
    digests = [access.certificate_digest(name) for name in names]
    found = [digest for digest in digests if digest is not None]
    if not found:
        raise Refused(UNAUTHENTICATED)
    return found


def first_known(service: Service, digests: list[bytes]) -> bytes:
    """Return the first digest that somebody may call by; else just the first.

    For a certificate with several names. The action looks it up again.

    Raises:
        StoreUnavailable: nothing was looked up.
    """
    with service.store.transaction(shared=True) as tx:
        known = tx.callers(digests)
    now = service.clock()
    for digest in digests:
        try:
            access.admit(known.get(digest), access.Scope.VERIFY, now)
        except Unauthenticated:
            continue
        except Forbidden:  # of another scope: that is for the action to say
            pass
        return digest
    return digests[0]
