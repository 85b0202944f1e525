"""What the tests of the v1 API share: callers with tokens, and accounts."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
from conftest import TurnedClock
from server_fixture import JSON_TYPE, Here, Reply, call, served_here

from otpseal.access import Scope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.callers import NewCaller

ALL = frozenset(Scope)


def token_of(new: NewCaller) -> str:
    """Return the token that was made."""
    assert new.token is not None
    return new.token.reveal().decode("ascii")


@dataclass(frozen=True)
class V1:
    """Speaks to the v1 API with one token."""

    here: Here
    token: str

    def ask(self, method: str, path: str, content: object = None) -> Reply:
        """Send a request; content other than bytes goes as JSON."""
        headers = [("Authorization", f"Bearer {self.token}")]
        if content is None:
            return call(self.here.port, method, path, headers=headers)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers += JSON_TYPE.items()
        return call(self.here.port, method, path, body, headers)

    def post(self, path: str, content: object = b"{}") -> Reply:
        """Post JSON."""
        return self.ask("POST", path, content)

    def get(self, path: str) -> Reply:
        """Get a path."""
        return self.ask("GET", path)

    def verify(self, account: object, code: object) -> Any:  # noqa: ANN401 - JSON
        """Return the verdict about a code."""
        reply = self.post("/v1/verify", {"account": account, "code": code})
        assert reply.status == 200, reply
        return reply.json

    def create(self, name: str, **fields: object) -> "Device":
        """Make an account; returns what its owner's device has."""
        reply = self.post("/v1/accounts", {"id": name, **fields})
        assert reply.status == 201, reply
        return Device(self.here, name, reply.json["otpauth_uri"])

    def enrol(self, name: str, **fields: object) -> "Device":
        """Make an account and enable it, with nothing spent."""
        device = self.create(name, **fields)
        assert self.post(f"/v1/accounts/{name}:enable").status == 200
        return device


@dataclass(frozen=True)
class Device:
    """An authenticator app with one account, by the URI that it was shown."""

    here: Here
    account: str
    uri: str

    def code(self, ahead: int = 0) -> str:
        """Return the code of the step that is so many ahead."""
        made = pyotp.parse_uri(self.uri)
        assert isinstance(made, pyotp.TOTP)
        return made.at(int(self.here.clock()) + ahead * made.interval)

    def wrong(self) -> str:
        """Return a code of no step near."""
        near = {self.code(ahead) for ahead in range(-70, 71)}
        return next(
            code for code in map("{:06}".format, range(200)) if code not in near
        )

    @property
    def secret(self) -> str:
        """The seed in base32."""
        return parse_qs(urlsplit(self.uri).query)["secret"][0]


def caller(
    here: Here,
    scopes: frozenset[Scope] = ALL,
    *,
    prefix: str = "",
    lasts_s: float | None = None,
) -> V1:
    """Admit a caller."""
    made = here.service.callers.create("test", scopes, prefix=prefix, lasts_s=lasts_s)
    return V1(here, token_of(made))


@contextlib.contextmanager
def served_v1(
    directory: Path,
    keys: RsaKeys,
    clock: TurnedClock,
    **options: Any,  # noqa: ANN401
) -> Iterator[V1]:
    """Serve a store and admit a caller who may do everything."""
    with served_here(directory, keys, clock, **options) as here:
        yield caller(here)
