"""Accounts on the way from one otpseal to another: a line of JSON each.

A line names an account's id, parameters and state in clear, and holds its seed
sealed to the receiver's RSA key (docs/backup.md)::

    sealed_seed = base64 of RSA-OAEP(SHA-256, MGF1-SHA-256, label "otpseal export v1")
                  over lp16(account id) || lp16(parameters) || seed

Id and parameters are in the seal, so that a seed cannot be moved to another account
on the way, nor become another, weaker factor. `last_step` travels, so that what was
spent stays spent. The seal tells nobody who made it: whoever has the public key can
seal an account of his own.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal.errors import ParametersRefused, UnsealFailed
from otpseal.padding import oaep_encrypt
from otpseal.secret import Secret
from otpseal.totp import RESYNC_STEPS, OtpType, Parameters

LABEL: Final = b"otpseal export v1"
VERSION: Final = 1

#: What the first line of such a file begins with.
START: Final = b'{"otpseal-account":'

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_MAX_STEP: Final = 2**63 - 1
_STATUSES: Final = ("pending", "active", "disabled")


@dataclass(frozen=True, slots=True)
class Traveller:
    """An account on the way.

    Attributes:
        account: its id where it comes from.
        parameters: what turns its seed into codes.
        issuer: shown by authenticator apps.
        label: shown by authenticator apps.
        status: pending, active or disabled.
        last_step: the highest step or counter that was spent there, or -1.
        drift: steps by which its device is ahead.
        sealed_seed: the seed, sealed to whom it goes to.
    """

    account: str
    parameters: Parameters
    issuer: str
    label: str
    status: str
    last_step: int
    drift: int
    sealed_seed: bytes = field(repr=False)


def seal(
    seed: Secret, account: str, parameters: Parameters, key: RSAPublicKey
) -> bytes:
    """Seal a seed, and with it what it is of, to `key`."""
    told = _lp16(account.encode("ascii")) + _lp16(parameters.canonical)
    return oaep_encrypt(key, told + seed.reveal(), label=LABEL)


def open_sealed(traveller: Traveller, decrypt: Callable[[bytes], bytes]) -> Secret:
    """Open a traveller's seed; `decrypt` is OAEP decryption with `LABEL`.

    Raises:
        UnsealFailed: for every cause alike.
    """
    content = decrypt(traveller.sealed_seed)
    account = traveller.account.encode("utf-8", "replace")
    told = _lp16(account) + _lp16(traveller.parameters.canonical)
    if not content.startswith(told):
        raise UnsealFailed
    return Secret(content[len(told) :])


def render(traveller: Traveller, kid: str) -> str:
    """Return the line of an account whose seed is sealed to the key `kid`."""
    parameters = traveller.parameters
    return _ENCODER.encode(
        {
            "otpseal-account": VERSION,
            "kid": kid,
            "account": traveller.account,
            "issuer": traveller.issuer,
            "label": traveller.label,
            "type": parameters.type.value,
            "algorithm": parameters.algorithm,
            "digits": parameters.digits,
            "period": parameters.period,
            "window": parameters.window,
            "status": traveller.status,
            "last_step": traveller.last_step,
            "drift": traveller.drift,
            "sealed_seed": base64.b64encode(traveller.sealed_seed).decode("ascii"),
        }
    )


def parse(content: bytes, kid: str) -> Iterator[tuple[int, Traveller | str]]:
    """Give each line's number with its account, or with what is wrong with it.

    Args:
        content: of a file.
        kid: the id of the key that the seeds should be sealed to.
    """
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, _parse_line(line, kid)


def _parse_line(line: bytes, kid: str) -> Traveller | str:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("otpseal-account") != VERSION:
        return "not a line that this otpseal reads"
    if content.get("kid") != kid:
        return "the seed is sealed to another key than this service's"
    try:
        return _traveller(content)
    except (KeyError, TypeError, ValueError, ParametersRefused):
        return "a value is missing, or outside its range"


def _traveller(content: dict[str, object]) -> Traveller:
    parameters = Parameters(
        _text(content["algorithm"]),
        _number(content["digits"]),
        _number(content["period"]),
        OtpType(_text(content["type"])),
        _number(content["window"]),
    )
    parameters.check()
    status = _text(content["status"])
    last_step, drift = _number(content["last_step"]), _number(content["drift"])
    if (
        status not in _STATUSES
        or abs(drift) > RESYNC_STEPS
        or not -1 <= last_step < _MAX_STEP
    ):
        raise ValueError
    sealed = binascii.a2b_base64(_text(content["sealed_seed"]), strict_mode=True)
    return Traveller(
        account=_text(content["account"]),
        parameters=parameters,
        issuer=_text(content["issuer"]),
        label=_text(content["label"]),
        status=status,
        last_step=last_step,
        drift=drift,
        sealed_seed=sealed,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _lp16(part: bytes) -> bytes:
    return len(part).to_bytes(2, "big") + part
