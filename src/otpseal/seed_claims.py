"""What an authority signs about a seed: for whom, for which account, since when.

The payload of an envelope, the same for every suite whose sender is known. JSON, read
strictly and as a whole: a member that is missing, unknown, twice there or out of its
range refuses all of it.

Leaves out: who signed, whether the claims fit this service and this time, and whether
they came before (`otpseal.envelopes`).
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from otpseal import base64url, strict_json, totp
from otpseal.account_id import is_account_id
from otpseal.errors import ClaimsRefused, ParametersRefused
from otpseal.kid import is_kid
from otpseal.secret import Secret

#: Bytes of the authority's nonce, and of the random part of an envelope's id.
NONCE_BYTES: Final = 16

#: Largest sequence, and time.
MAX_SEQUENCE: Final = strict_json.MAX_EXACT

#: Longest name of an issuer or a label, in characters.
MAX_NAME_CHARS: Final = 256

_AUTHORITY: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_JTI: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
_MEMBERS: Final = {"iss", "aud", "sub", "iat", "exp", "jti", "seq", "nonce", "otp"}
_OTP: Final = {
    "secret",
    "type",
    "alg",
    "digits",
    "period",
    "counter",
    "window",
    "issuer",
    "label",
}


@dataclass(frozen=True, slots=True)
class SeedClaims:
    """What is signed about a seed.

    Attributes:
        issuer: the authority's name, see `is_authority_name`.
        audience: kid of the import key that the envelope is sealed to.
        account: the account's id.
        seed: 16 to 64 bytes.
        issued_at: Unix seconds.
        expires_at: Unix seconds, after `issued_at`.
        jti: the envelope's id, 22 base64url characters.
        sequence: rises strictly with each envelope for the account, 1 to 2**53 - 1.
        nonce: 16 random bytes, for the receipt.
        parameters: what turns the seed into codes.
        counter: the next counter of a HOTP account.
        service_name: the issuer that authenticator apps show.
        label: whose account it is, as they show it.
    """

    issuer: str
    audience: str
    account: str
    seed: Secret = field(repr=False)
    issued_at: int
    expires_at: int
    jti: str
    sequence: int
    nonce: bytes
    parameters: totp.Parameters = totp.CLASSIC
    counter: int = 0
    service_name: str = ""
    label: str = ""

    def check(self) -> None:
        """Tell by returning that all is in its range.

        Raises:
            ClaimsRefused: names the member.
        """
        named = {
            "iss": is_authority_name(self.issuer),
            "aud": is_kid(self.audience),
            "sub": is_account_id(self.account),
            "iat": 0 <= self.issued_at <= MAX_SEQUENCE,
            "exp": self.issued_at < self.expires_at <= MAX_SEQUENCE,
            "jti": _JTI.fullmatch(self.jti) is not None,
            "seq": 1 <= self.sequence <= MAX_SEQUENCE,
            "nonce": len(self.nonce) == NONCE_BYTES,
            "issuer": _is_name(self.service_name),
            "label": _is_name(self.label),
        }
        for name, is_right in named.items():
            if not is_right:
                raise ClaimsRefused(f"The claim {name} is not as it must be")
        try:
            self.parameters.check()
            totp.check_seed(self.seed)
            totp.check_counter(self.counter)
        except ParametersRefused as error:
            raise ClaimsRefused(str(error)) from None


def is_authority_name(text: str) -> bool:
    """Tell whether `text` can name an authority: 1 to 64 of `a-z 0-9 . _ -`."""
    return _AUTHORITY.fullmatch(text) is not None


def to_json(claims: SeedClaims) -> bytes:
    """Return the payload; it holds the seed.

    Raises:
        ClaimsRefused: as `SeedClaims.check`.
    """
    claims.check()
    parameters = claims.parameters
    content = {
        "iss": claims.issuer,
        "aud": claims.audience,
        "sub": claims.account,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.jti,
        "seq": claims.sequence,
        "nonce": base64url.encode(claims.nonce),
        "otp": {
            "secret": base64url.encode(claims.seed.reveal()),
            "type": parameters.type.value,
            "alg": parameters.algorithm,
            "digits": parameters.digits,
            "period": parameters.period,
            "counter": claims.counter,
            "window": parameters.window,
            "issuer": claims.service_name,
            "label": claims.label,
        },
    }
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def parse(payload: bytes) -> SeedClaims:
    """Read a payload whose signature is known to be good.

    Raises:
        ClaimsRefused: names the member, never what it holds.
    """
    try:
        content = strict_json.parse_object(payload)
    except ValueError:
        raise ClaimsRefused("The claims are no JSON") from None
    if set(content) != _MEMBERS:
        raise ClaimsRefused("The claims have other members than they must")
    otp = content["otp"]
    if not isinstance(otp, dict) or not {"secret"} <= set(otp) <= _OTP:
        raise ClaimsRefused("The claim otp has other members than it may")
    classic = totp.CLASSIC
    kind = _text(otp, "type", classic.type.value)
    if kind not in tuple(totp.OtpType):
        raise ClaimsRefused("The claim type must be totp or hotp")
    claims = SeedClaims(
        issuer=_text(content, "iss"),
        audience=_text(content, "aud"),
        account=_text(content, "sub"),
        seed=Secret(_decode(otp, "secret")),
        issued_at=_number(content, "iat"),
        expires_at=_number(content, "exp"),
        jti=_text(content, "jti"),
        sequence=_number(content, "seq"),
        nonce=_decode(content, "nonce"),
        parameters=totp.Parameters(
            algorithm=_text(otp, "alg", classic.algorithm),
            digits=_number(otp, "digits", classic.digits),
            period=_number(otp, "period", classic.period),
            type=totp.OtpType(kind),
            window=_number(otp, "window", classic.window),
        ),
        counter=_number(otp, "counter", 0),
        service_name=_text(otp, "issuer", ""),
        label=_text(otp, "label", ""),
    )
    claims.check()
    return claims


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME_CHARS and text.isprintable()


def _text(content: dict[str, Any], name: str, default: str | None = None) -> str:
    value = content.get(name, default)
    if not isinstance(value, str):
        raise ClaimsRefused(f"The claim {name} must be a string")
    return value


def _number(content: dict[str, Any], name: str, default: int | None = None) -> int:
    value = content.get(name, default)
    # True is an int to Python, and 6.0 equals 6.
    if type(value) is not int:
        raise ClaimsRefused(f"The claim {name} must be an integer")
    return value


def _decode(content: dict[str, Any], name: str) -> bytes:
    text = _text(content, name)
    try:
        return base64url.decode(text)
    except ValueError:
        raise ClaimsRefused(f"The claim {name} is no base64url") from None
