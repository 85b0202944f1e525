"""A browser is an attacker's tool: which Host and Origin an open service answers.

With open access any web page could reach the service by DNS rebinding: its own name
resolves to our address, and the browser sees no foreign origin. Such a request still
carries the attacker's name as its Host.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

from otpseal.http.wire import (
    App,
    Receive,
    Refusal,
    Scope,
    Send,
    json_answer,
)

_BAD_HOST = Refusal(403, "Host not allowed; see OTPSEAL_ALLOWED_HOSTS")
_BAD_ORIGIN = Refusal(403, "Origin not allowed")

#: Host values that are remembered as allowed; they are a stranger's.
MAX_KNOWN_HOSTS: Final = 64

# RFC 9110 section 7.2, without what only a URL may hold (`user@`, a path): what two
# parsers read differently is nobody's name.
_HOST: Final = re.compile(
    rb"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::[0-9]*)?",
    re.IGNORECASE,
)


class HostGuard:
    """Passes on requests whose Host cannot be an attacker's and whose Origin is ours.

    Args:
        app: what is guarded.
        allowed_hosts: names besides IP literals, `localhost` and single-label names
            (which public DNS cannot hand out).
        form: what a refusal holds beside its `error`.
    """

    def __init__(
        self,
        app: App,
        allowed_hosts: Iterable[str] = (),
        *,
        form: Mapping[str, str] | None = None,
    ) -> None:
        self._app = app
        self._form = dict(form or {})
        self._allowed = frozenset(name.lower() for name in allowed_hosts)
        # Every browser and client repeats the same few values.
        self._known: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            answer = json_answer(
                {**self._form, "error": refusal.text}, status=refusal.status
            )
            await answer.send(scope, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        host, origin, hosts = b"", None, 0
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                hosts += 1
            elif name == b"origin":
                if origin is not None:
                    return _BAD_ORIGIN
                origin = value
        if hosts == 0 and origin is None and scope["http_version"] == "1.0":
            return None  # no browser: a plain health probe
        if hosts != 1 or not self._is_allowed(host):
            return _BAD_HOST
        if origin is not None and _authority(origin) != host.lower():
            return _BAD_ORIGIN
        return None

    def _is_allowed(self, host: bytes) -> bool:
        if host in self._known:
            return True
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        if found["v6"]:
            allowed = _is_ip_address(found["v6"].decode("ascii"))
        else:
            allowed = self._is_allowed_name(found["name"].decode("ascii").lower())
        if allowed and len(self._known) < MAX_KNOWN_HOSTS:
            self._known.add(host)
        return allowed

    def _is_allowed_name(self, name: str) -> bool:
        return name in self._allowed or "." not in name or _is_ip_address(name)


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _authority(origin: bytes) -> bytes:
    """Return the host and port of an Origin; empty for `null` and what is no URL."""
    scheme, separator, authority = origin.lower().partition(b"://")
    return authority if separator and scheme in {b"http", b"https"} else b""
