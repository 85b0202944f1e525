"""All settings, from the environment; one frozen object, made at the doors.

Every field is an environment variable `OTPSEAL_<NAME>`. Secrets are never values
here but files (`*_file`), and none has a default.
"""

import ipaddress
import logging
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from otpseal import pkcs11_uri
from otpseal.errors import ConfigurationError
from otpseal.secret import Secret
from otpseal.secret_files import MIN_TOKEN_CHARS, read_secret_file, read_token_file
from otpseal.suite import Suite

_HOST_NAME = re.compile(r"[a-z0-9_.-]+", re.ASCII)

_FILE_URI = re.compile(r"file:/(?!/)[^%\x00]+")


# Read by a command's option, by the compose files and by the tests.
_ELSEWHERE = {
    "OTPSEAL_AUTHORITY_CA_FILE",
    "OTPSEAL_AUTHORITY_URL",
    "OTPSEAL_IMAGE",
    "OTPSEAL_NGINX_IMAGE",
    "OTPSEAL_POSTGRES_IMAGE",
    "OTPSEAL_PUBLISH_PORT",
    "OTPSEAL_CONTAINER_TESTS",
    "OTPSEAL_TORTURE",
}
_log = logging.getLogger("otpseal")


class Access(StrEnum):
    """Who may use the classic API."""

    OPEN = "open"
    TOKEN = "token"  # noqa: S105 - the name of the policy
    OFF = "off"


class LogFormat(StrEnum):
    """How `otpseal serve` writes its log."""

    TEXT = "text"
    JSON = "json"


class PinnedBy(StrEnum):
    """How services know an authority's signatures."""

    KEYS = "keys"
    """They pinned its signing keys: an envelope names its key."""

    CA = "ca"
    """They pinned its CA: the signing certificate travels with each envelope."""


class AccessLogging(StrEnum):
    """Whether each request has a line in the log."""

    OFF = "off"
    ON = "on"


class Settings(BaseSettings):
    """Where everything is and how the service behaves."""

    model_config = SettingsConfigDict(
        env_prefix="OTPSEAL_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        Path("data"), description="Directory of the store; made with mode 0700."
    )
    key_file: Path | None = Field(
        None,
        description="Private key, PEM. Default: keys/student_private.pem"
        " (authority: keys/instructor_private.pem) in the data directory.",
    )
    key: str | None = Field(
        None,
        description="Where the private key is, instead of a key file: file:/PATH, or"
        " pkcs11:token=LABEL;object=LABEL (RFC 7512).",
        repr=False,  # somebody may have put a PIN there, which is refused
    )
    other_key: str | None = Field(
        None,
        description="Where import keys are looked for besides, as OTPSEAL_KEY, while"
        " one place takes over from another.",
        repr=False,
    )
    key_passphrase_file: Path | None = Field(
        None, description="File with the private key's passphrase."
    )
    pkcs11_module: Path | None = Field(
        None, description="The token's PKCS#11 module, a shared library."
    )
    pkcs11_pin_file: Path | None = Field(
        None, description="File with the token's PIN, mode 0600."
    )
    database_url: str | None = Field(
        None,
        description="Default: sqlite file otpseal.db in the data directory.",
        repr=False,  # it may hold a password
    )
    database_password_file: Path | None = Field(
        None, description="File with the password of a database URL that has none."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port; 0 takes a free one.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that answer requests on this machine."
    )
    tls_cert_file: Path | None = Field(
        None,
        description="Certificate chain, PEM; with it the service speaks TLS only.",
    )
    tls_key_file: Path | None = Field(
        None, description="The certificate's private key, PEM, mode 0600."
    )
    tls_key_passphrase_file: Path | None = Field(
        None, description="File with the TLS key's passphrase."
    )
    tls_client_ca_file: Path | None = Field(
        None,
        description="CA certificates, PEM: clients may show a certificate by them.",
    )
    code_log: Path | None = Field(
        None, description="The one-line-a-minute file; unset: there is none."
    )
    code_log_max_bytes: int = Field(
        1_048_576, ge=1024, description="Size at which the code log rotates, in bytes."
    )
    window_steps: int = Field(
        1, ge=0, le=1, description="Steps accepted before and after the current one."
    )
    classic_access: Access | None = Field(
        None,
        description="open, token or off. Default: open on a loopback address;"
        " elsewhere it must be chosen.",
    )
    classic_token_file: Path | None = Field(
        None, description=f"File with the bearer token, {MIN_TOKEN_CHARS}+ characters."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Host names that browsers may use, separated by commas."
    )
    v1: bool = Field(
        True,  # noqa: FBT003 - pydantic's form
        description="on or off: the v1 API, for callers with tokens.",
    )
    api_docs: bool = Field(
        True,  # noqa: FBT003
        description="on or off: the interactive page /docs and /openapi.json.",
    )
    accept_suites: Annotated[tuple[Suite, ...], NoDecode] = Field(
        tuple(Suite),
        description="Forms of sealed seeds that are taken: classic (its sender is not"
        " known), v1, pq; separated by commas.",
    )
    audit_retention_days: int = Field(
        365,
        ge=1,
        le=36_500,
        description="Audit events older than this are pruned daily, days.",
    )
    alarm_failures: int = Field(
        100,
        ge=0,
        description="Wrong codes a minute, over all accounts, that raise the alarm if"
        " they are the greater part of all attempts; 0 for never.",
    )
    log_format: LogFormat = Field(
        LogFormat.TEXT, description="text or json, on stderr of `otpseal serve`."
    )
    access_log: AccessLogging = Field(
        AccessLogging.OFF, description="on: a line in the log for each request."
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of /metrics alone; 0 takes a free one."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of that port.")
    metrics_token_file: Path | None = Field(
        None, description="File with the bearer token of /metrics, on either port."
    )
    authority_max_seeds: int = Field(
        100_000, ge=1, description="Pairs that the authority keeps seeds for, at most."
    )

    authority_name: str = Field(
        "authority",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="The authority's name, which services pin it under.",
    )
    authority_pinned_by: PinnedBy = Field(
        PinnedBy.KEYS,
        description="keys or ca: what services pinned, and so what travels with each"
        " envelope: the id of the signing key, or its certificate.",
    )
    authority_classic: bool = Field(
        True,  # noqa: FBT003 - pydantic's form
        description="on or off: the exercise's request, which knows no subscribers.",
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(part.strip().lower() for part in value.split(",") if part.strip())
        if any(not _HOST_NAME.fullmatch(name) for name in names):
            raise ValueError("host names only, without scheme, port or path")
        return names

    @field_validator("accept_suites", mode="before")
    @classmethod
    def _suites(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = {part.strip() for part in value.split(",") if part.strip()}
        if not names or names - set(Suite):
            raise ValueError("a list of " + ", ".join(Suite) + ", at least one")
        return tuple(suite for suite in Suite if suite in names)

    @property
    def resolved_database_url(self) -> str:
        """The database URL, by default an SQLite file in the data directory."""
        if self.database_url:
            return self.database_url
        return f"sqlite:///{self.sqlite_path}"

    @property
    def sqlite_path(self) -> Path:
        """Where the store is unless a database URL says otherwise."""
        return (self.data_dir / "otpseal.db").absolute()

    def key_path(self, default_name: str) -> Path:
        """The private key's path, by default in the data directory.

        Raises:
            ConfigurationError: it is in a token, or the settings name two keys.
        """
        if self.key_uri() is not None:
            raise ConfigurationError(
                "the private key is in a token (OTPSEAL_KEY): this works on key files"
                " only, and a token's keys are made by its own tools"
            )
        if self.key is not None:
            return Path(self.key.removeprefix("file:"))
        return self.key_file or self.data_dir / "keys" / default_name

    def key_uri(self) -> pkcs11_uri.Pkcs11Uri | None:
        """Which token has the private key, or None if a file has.

        Raises:
            ConfigurationError: OTPSEAL_KEY is malformed, or OTPSEAL_KEY_FILE is set
                beside it.
        """
        if self.key is None:
            return None
        if self.key_file is not None:
            raise ConfigurationError(
                "OTPSEAL_KEY and OTPSEAL_KEY_FILE (or --key-file) are both given:"
                " unset one of them"
            )
        place = _place(self.key, "OTPSEAL_KEY")
        return None if isinstance(place, Path) else place

    def other_key_place(self) -> pkcs11_uri.Pkcs11Uri | Path | None:
        """Where import keys are looked for besides, or None if nowhere.

        Raises:
            ConfigurationError: OTPSEAL_OTHER_KEY is malformed.
        """
        if self.other_key is None:
            return None
        return _place(self.other_key, "OTPSEAL_OTHER_KEY")

    def key_passphrase(self) -> bytes | None:
        """The private key's passphrase, or None if no file is set."""
        if self.key_passphrase_file is None:
            return None
        return read_secret_file(
            self.key_passphrase_file, "OTPSEAL_KEY_PASSPHRASE_FILE"
        ).reveal()

    def database_password(self) -> Secret | None:
        """The database's password beside the URL, or None if no file is set."""
        if self.database_password_file is None:
            return None
        return read_secret_file(
            self.database_password_file, "OTPSEAL_DATABASE_PASSWORD_FILE"
        )

    def classic_token(self) -> Secret:
        """The bearer token of the classic API.

        Raises:
            ConfigurationError: no file is set, or its token is too short.
        """
        if self.classic_token_file is None:
            raise ConfigurationError(
                "OTPSEAL_CLASSIC_ACCESS=token needs OTPSEAL_CLASSIC_TOKEN_FILE: a"
                f" file with a token of at least {MIN_TOKEN_CHARS} characters"
                " (`openssl rand -base64 48 > token`)"
            )
        return read_token_file(self.classic_token_file, "OTPSEAL_CLASSIC_TOKEN_FILE")

    def metrics_token(self) -> Secret | None:
        """The bearer token of /metrics, or None if no file is set.

        Raises:
            ConfigurationError: its token is too short.
        """
        if self.metrics_token_file is None:
            return None
        return read_token_file(self.metrics_token_file, "OTPSEAL_METRICS_TOKEN_FILE")

    def resolved_access(self) -> Access:
        """Who may use the classic API.

        Raises:
            ConfigurationError: it must be chosen, because the address is not
                loopback.
        """
        if self.classic_access is not None:
            return self.classic_access
        if is_loopback(self.host):
            return Access.OPEN
        raise ConfigurationError(
            f"listening on {self.host} needs an explicit choice of who may use the"
            " classic API: set OTPSEAL_CLASSIC_ACCESS=token and"
            " OTPSEAL_CLASSIC_TOKEN_FILE, or OTPSEAL_CLASSIC_ACCESS=off, or"
            " OTPSEAL_CLASSIC_ACCESS=open if something else guards this address"
        )


def _place(text: str, setting: str) -> pkcs11_uri.Pkcs11Uri | Path:
    if text.startswith(pkcs11_uri.SCHEME):
        return pkcs11_uri.parse(text, setting)
    # Whole, absolute, as it is: no host, no percent signs (RFC 8089 section 2).
    if not _FILE_URI.fullmatch(text):
        raise ConfigurationError(
            f"{setting} is file:/ABSOLUTE/PATH without percent signs, or"
            " pkcs11:token=LABEL;object=LABEL"
        )
    return Path(text.removeprefix("file:"))


def load_settings(**overrides: object) -> Settings:
    """Make the settings from the environment; overrides that are None are ignored.

    Raises:
        ConfigurationError: names the variable, never its value.
    """
    _warn_of_unknown()
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"][:1]).upper()
        raise ConfigurationError(f"OTPSEAL_{name}: {first['msg']}") from None


def _warn_of_unknown() -> None:
    # A misspelt OTPSEAL_CLASSIC_ACESS=token would leave the service open in silence.
    for name in unknown_variables():
        _log.warning("%s is set, but there is no such setting", name)


def unknown_variables() -> list[str]:
    """Return the names of variables that look like settings and are none."""
    known = {f"OTPSEAL_{name.upper()}" for name in Settings.model_fields} | _ELSEWHERE
    return [
        name
        for name in sorted(os.environ)
        if name.startswith("OTPSEAL_") and name not in known
    ]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
