"""What an authenticator app reads a new seed from: an otpauth URI, and its QR code.

Both are as secret as the seed and are shown once.
"""

import base64
import io
from typing import Final
from urllib.parse import quote, urlencode

import segno

from otpseal.ports import AccountRow
from otpseal.secret import Secret
from otpseal.totp import OtpType

#: Side of one module of the QR code, and its quiet zone in modules (ISO/IEC 18004
#: wants four). An image of about 300 pixels.
_SCALE: Final = 5
_BORDER: Final = 4


def otpauth_uri(account: AccountRow, seed: Secret) -> str:
    """Return the URI of an account; without a label its id stands in for it."""
    parameters = account.parameters
    counts = parameters.type is OtpType.HOTP
    return key_uri(
        seed,
        issuer=account.issuer,
        label=account.label or account.id,
        kind=parameters.type.value,
        algorithm=parameters.algorithm,
        digits=parameters.digits,
        period=parameters.period,
        counter=account.state.last_step + 1 if counts else 0,
    )


def key_uri(
    seed: Secret,
    *,
    issuer: str,
    label: str,
    kind: str,
    algorithm: str,
    digits: int,
    period: int,
    counter: int,
) -> str:
    """Return the URI from which an authenticator reads an account.

    Stands in for `otpseal.formats.otpauth.key_uri`, with the same arguments.
    """
    named = quote(label, safe="")
    secret = base64.b32encode(seed.reveal()).decode("ascii").rstrip("=")
    parameters: dict[str, str | int] = {"secret": secret}
    if issuer:
        named = f"{quote(issuer, safe='')}:{named}"
        parameters["issuer"] = issuer
    parameters |= {"algorithm": algorithm, "digits": digits}
    parameters |= {"counter": counter} if kind == "hotp" else {"period": period}
    return f"otpauth://{kind}/{named}?{urlencode(parameters, quote_via=quote)}"


def qr_svg(uri: str) -> str:
    """Return a QR code as a whole SVG image that refers to nothing outside itself."""
    image = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        image,
        kind="svg",
        scale=_SCALE,
        border=_BORDER,
        xmldecl=False,
        nl=False,
        light="#fff",  # on a dark page it must still be dark on light
        omitsize=False,
    )
    return image.getvalue().decode("ascii")
