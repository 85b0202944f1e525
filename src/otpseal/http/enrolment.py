"""The QR code of a new seed's otpauth URI: as secret as the seed, and shown once."""

import io
from typing import Final

import segno

#: Side of one module of the QR code, and its quiet zone in modules (ISO/IEC 18004
#: wants four). An image of about 300 pixels.
_SCALE: Final = 5
_BORDER: Final = 4


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
