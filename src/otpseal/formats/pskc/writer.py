"""Containers that this service writes: RFC 6030 section 6.3, to an RSA key.

A key of 256 bits, made for the one container, is in an EncryptedKey under RSA-OAEP
(SHA-256, MGF1-SHA-256); every seed is encrypted by it with AES-256-GCM. Whoever has
the public key can write such a container: it tells nobody who did.
"""

import base64
import re
import secrets
from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from otpseal.errors import MoveRefused
from otpseal.formats.pskc import ciphers
from otpseal.formats.pskc.token import Token
from otpseal.padding import oaep_encrypt

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_GCM: Final = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
_PROFILE: Final = "urn:ietf:params:xml:ns:keyprov:pskc:"
# XML 1.0 section 2.2.
_UNWRITABLE: Final = re.compile(
    r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)

_HEAD: Final = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<pskc:KeyContainer Version="1.0"
  xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc"
  xmlns:ds="http://www.w3.org/2000/09/xmldsig#"
  xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"
  xmlns:xenc11="http://www.w3.org/2009/xmlenc11#">
  <pskc:EncryptionKey>
    <xenc:EncryptedKey>
      <xenc:EncryptionMethod Algorithm="{ciphers.OAEP}">
        <ds:DigestMethod Algorithm="{ciphers.OAEP_DIGEST}"/>
        <xenc11:MGF Algorithm="{ciphers.OAEP_MGF}"/>
      </xenc:EncryptionMethod>
      <ds:KeyInfo><ds:KeyName>%s</ds:KeyName></ds:KeyInfo>
      <xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData>
    </xenc:EncryptedKey>
  </pskc:EncryptionKey>"""
_PACKAGE: Final = f"""\
  <pskc:KeyPackage>
    <pskc:Key Id=%(id)s Algorithm="{_PROFILE}%(type)s">
      <pskc:Issuer>%(issuer)s</pskc:Issuer>
      <pskc:AlgorithmParameters>
        <pskc:Suite>HMAC-%(algorithm)s</pskc:Suite>
        <pskc:ResponseFormat Encoding="DECIMAL" Length="%(digits)s"/>
      </pskc:AlgorithmParameters>
      <pskc:FriendlyName>%(label)s</pskc:FriendlyName>
      <pskc:Data>
        <pskc:Secret>
          <pskc:EncryptedValue>
            <xenc:EncryptionMethod Algorithm="{_GCM}"/>
            <xenc:CipherData><xenc:CipherValue>%(seed)s</xenc:CipherValue></xenc:CipherData>
          </pskc:EncryptedValue>
        </pskc:Secret>
%(moving)s
      </pskc:Data>
    </pskc:Key>
  </pskc:KeyPackage>"""
_NUMBER: Final = "        <pskc:%s><pskc:PlainValue>%d</pskc:PlainValue></pskc:%s>"


class ContainerWriter:
    """Writes one container: its head, a package for each token, its foot.

    Args:
        key: whom it is encrypted to.
        kid: that key's RFC 7638 thumbprint.
        random: gives that many random bytes.

    Attributes:
        kid: as given.
    """

    def __init__(
        self,
        key: RSAPublicKey,
        kid: str,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.kid = kid
        self._random = random
        content_key = random(_KEY_BYTES)
        self._cipher = AESGCM(content_key)
        self._head = _HEAD % (escape(kid), _base64(oaep_encrypt(key, content_key)))

    def head(self) -> str:
        """Return what stands before the packages."""
        return self._head

    def package(self, token: Token) -> str:
        """Return the package of one token.

        Raises:
            MoveRefused: a name has a character that XML cannot write.
        """
        names = token.account, token.issuer, token.label
        if any(_UNWRITABLE.search(name) for name in names):
            raise MoveRefused(
                f"account {token.account!r} has a name with a character that XML"
                " cannot write"
            )
        nonce = self._random(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, token.seed.reveal(), None)
        if token.type == "hotp":
            moving = {"Counter": token.counter}
        else:
            moving = {"Time": 0, "TimeInterval": token.period, "TimeDrift": token.drift}
        return _PACKAGE % {
            "id": quoteattr(token.account),
            "type": token.type,
            "issuer": escape(token.issuer),
            "algorithm": token.algorithm,
            "digits": token.digits,
            "label": escape(token.label),
            "seed": _base64(sealed),
            "moving": "\n".join(_NUMBER % (n, v, n) for n, v in moving.items()),
        }

    def foot(self) -> str:
        """Return what stands after the packages."""
        return "</pskc:KeyContainer>"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
