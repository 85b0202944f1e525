"""Containers for the tests of PSKC: RFC 6030's, python-pskc's, and made by hand."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pskc import PSKC

from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import FileRefused
from otpseal.formats.pskc import ciphers
from otpseal.formats.pskc.container import parse
from otpseal.formats.pskc.protection import ImportKey, Unlocking
from otpseal.formats.row import Entry, Fault
from otpseal.padding import oaep_encrypt
from otpseal.secret import Secret

VECTORS = Path(__file__).parent / "vectors" / "pskc"
FIGURE_6 = (VECTORS / "rfc6030_figure6.xml").read_text("utf-8")
FIGURE_7 = (VECTORS / "rfc6030_figure7.xml").read_text("utf-8")
FIGURE_8 = (VECTORS / "rfc6030_figure8.xml").read_text("utf-8")
#: That of figures 6 and 7, and of RFC 4226's appendix D.
SEED = b"12345678901234567890"
PRESHARED = Secret(bytes.fromhex("12345678901234567890123456789012"))
PASSPHRASE = Secret(b"qwerty")

HOTP = "urn:ietf:params:xml:ns:keyprov:pskc:hotp"
TOTP = "urn:ietf:params:xml:ns:keyprov:pskc:totp"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"

#: 2026-01-01T00:00:00Z.
NOW = 1767225600.0

_NAMESPACES = (
    'xmlns="urn:ietf:params:xml:ns:keyprov:pskc"'
    ' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
    f' xmlns:xenc="{XENC}" xmlns:xenc11="{XENC11}"'
)
OAEP_METHOD = (
    f'<xenc:EncryptionMethod Algorithm="{ciphers.OAEP}">'
    f'<ds:DigestMethod Algorithm="{ciphers.OAEP_DIGEST}"/>'
    f'<xenc11:MGF Algorithm="{ciphers.OAEP_MGF}"/></xenc:EncryptionMethod>'
)


def b64(value: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(value).decode("ascii")


def plain(value: object) -> str:
    """Return a value in clear."""
    return f"<PlainValue>{value}</PlainValue>"


def cipher(method: str, ciphertext: bytes) -> str:
    """Return what EncryptedValue, MACKey and EncryptedKey hold."""
    return (
        f"{method}<xenc:CipherData><xenc:CipherValue>{b64(ciphertext)}"
        "</xenc:CipherValue></xenc:CipherData>"
    )


def oaep(public_key: RSAPublicKey, message: bytes, method: str = OAEP_METHOD) -> str:
    """Return a value that is encrypted to a public key."""
    return cipher(method, oaep_encrypt(public_key, message))


def key(
    name: str = "token-1",
    *,
    profile: str = HOTP,
    secret: str = plain(b64(SEED)),
    data: str = f"<Counter>{plain(0)}</Counter>",
    parameters: str = '<ResponseFormat Length="6" Encoding="DECIMAL"/>',
    inside: str = "",
    device: str = "",
) -> str:
    """Return a KeyPackage."""
    return (
        f'<KeyPackage>{device}<Key Id="{name}" Algorithm="{profile}">{inside}'
        f"<AlgorithmParameters>{parameters}</AlgorithmParameters>"
        f"<Data><Secret>{secret}</Secret>{data}</Data></Key></KeyPackage>"
    )


def container(*packages: str, head: str = "", attributes: str = "") -> str:
    """Return a KeyContainer."""
    return (
        f'<KeyContainer Version="1.0" {attributes} {_NAMESPACES}>{head}'
        f"{''.join(packages or [key()])}</KeyContainer>"
    )


def written(given: PSKC) -> str:
    """Return what python-pskc writes."""
    stream = io.BytesIO()
    given.write(stream)
    return stream.getvalue().decode("utf-8")


Parse = Callable[..., list[Entry | Fault]]


def parser(keys: RsaKeys) -> Parse:
    """Return `parse` for the owner of these keys."""

    def decrypt(ciphertext: bytes, label: bytes | None) -> bytes:
        return keys.oaep_decrypt(ciphertext, label=label)

    def parsed(
        content: str | bytes,
        *,
        preshared: Secret | None = None,
        passphrase: Secret | None = None,
        **options: Any,  # noqa: ANN401 - as `parse` has them
    ) -> list[Entry | Fault]:
        if isinstance(content, str):
            content = content.encode()
        unlocking = Unlocking(
            ImportKey(keys.kid, keys.public_key, decrypt), preshared, passphrase
        )
        return parse(content, unlocking, **{"now": NOW, **options})

    return parsed


def only(rows: list[Entry | Fault]) -> Entry:
    """Return the only row, an entry."""
    assert 1 == len(rows)
    assert isinstance(rows[0], Entry), rows[0]
    return rows[0]


def fault(rows: list[Entry | Fault]) -> str:
    """Return the reason of the only row, a fault."""
    assert 1 == len(rows)
    assert isinstance(rows[0], Fault), rows[0]
    return rows[0].reason


def refusal(parsed: Parse, content: str | bytes, **options: object) -> str:
    """Return why a file is refused as a whole."""
    with pytest.raises(FileRefused) as caught:
        parsed(content, **options)
    seen = caught.value.__context__
    assert seen is None or "Row" in type(seen).__name__, "a foreign error stays"
    return str(caught.value)


def without(pattern: str, text: str) -> str:
    """Return a text with one piece cut out."""
    cut, count = re.subn(pattern, "", text, count=1, flags=re.DOTALL)
    assert 1 == count
    return cut
