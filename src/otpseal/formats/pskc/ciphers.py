"""The algorithms of RFC 6030 section 6 that are accepted, each by its exact URI.

AES-CBC, HMAC and PBKDF2 are those of python-pskc. Its key wrap is not used: it takes
the padding of RFC 5649 for an answer where RFC 3394 was asked. GCM and RSA-OAEP it
does not have.
"""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
)
from pskc.encryption import KeyDerivation
from pskc.encryption import decrypt as decrypt_by_pskc
from pskc.exceptions import PSKCError
from pskc.mac import mac

from otpseal.errors import UnsealFailed
from otpseal.formats.pskc.tree import DS, XENC, XENC11, Node
from otpseal.formats.row import RowError

_XENC: Final = "http://www.w3.org/2001/04/xmlenc#"
_XENC11: Final = "http://www.w3.org/2009/xmlenc11#"
_SHA1_MAC: Final = "http://www.w3.org/2000/09/xmldsig#hmac-sha1"
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"

#: Size of a key in bytes by the cipher's URI. These have no authentication.
CBC: Final = {f"{_XENC}aes{bits}-cbc": bits // 8 for bits in (128, 192, 256)}
#: RFC 3394, and RFC 5649; both detect a wrong key.
WRAP: Final = {f"{_XENC}kw-aes{bits}": bits // 8 for bits in (128, 192, 256)}
WRAP_PAD: Final = {f"{_XENC11}kw-aes-{bits}-pad": bits // 8 for bits in (128, 192, 256)}
#: A nonce of 12 bytes before, a tag of 16 after (XML Encryption 1.1, section 5.2.4).
GCM: Final = {f"{_XENC11}aes{bits}-gcm": bits // 8 for bits in (128, 192, 256)}
SYMMETRIC: Final = {**CBC, **WRAP, **WRAP_PAD, **GCM}

#: The only asymmetric one: RSA-OAEP with SHA-256, and MGF1 with SHA-256.
OAEP: Final = f"{_XENC11}rsa-oaep"
OAEP_DIGEST: Final = f"{_XENC}sha256"
OAEP_MGF: Final = f"{_XENC11}mgf1sha256"
_OAEP_ALONE: Final = (
    "of the asymmetric ciphers only xmlenc11#rsa-oaep with DigestMethod xmlenc#sha256"
    " and MGF xmlenc11#mgf1sha256 is accepted"
)

# Labels of the service's other uses of its key, such as the wrapped storage key: else
# a container could bring in what was sealed for one of them.
_OURS: Final = b"otpseal "

MACS: Final = (
    _SHA1_MAC,
    f"{_MORE}hmac-sha256",
    f"{_MORE}hmac-sha384",
    f"{_MORE}hmac-sha512",
)
#: Shortest key of a MAC, in bytes.
MIN_MAC_KEY: Final = 16

#: As RFC 6030's figure 7 has it, as the text of its section 6.2 has it, and as XML
#: Encryption 1.1 has it.
PBKDF2: Final = (
    "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2",
    "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5#pbkdf2",
    f"{_XENC11}pbkdf2",
)
#: Rounds of PBKDF2; more would be a way to keep this machine busy for hours.
ROUNDS: Final = range(1, 1_000_001)
#: Bytes of its salt (RFC 8018 section 4.1: at least 8).
SALT_BYTES: Final = range(8, 1025)
KEY_BYTES: Final = (16, 24, 32)

_BLOCK: Final = 16
_NONCE: Final = 12
_TAG: Final = 16

#: RSA-OAEP with SHA-256 by a private key: the ciphertext, and the label if any.
Decrypt = Callable[[bytes, bytes | None], bytes]


def algorithm_of(node: Node) -> str:
    """Return the URI in the attribute Algorithm; "" if there is none."""
    return node.attributes.get("Algorithm", "")


def is_symmetric(method: Node) -> bool:
    """Tell whether an EncryptionMethod names one of `SYMMETRIC`."""
    return algorithm_of(method) in SYMMETRIC


def open_symmetric(method: Node, key: bytes, ciphertext: bytes) -> bytes:
    """Decrypt; what `CBC` ciphers give is believed only after its MAC.

    Raises:
        RowError: a key of another size, or it does not open.
    """
    method.holds_only()
    uri = algorithm_of(method)
    if len(key) != SYMMETRIC[uri]:
        raise RowError("the key has another size than the cipher's")
    try:
        if uri in CBC:
            found = _open_cbc(uri, key, ciphertext)
        elif uri in GCM:
            nonce, rest = ciphertext[:_NONCE], ciphertext[_NONCE:]
            found = AESGCM(key).decrypt(nonce, rest, None) if len(rest) >= _TAG else b""
        elif uri in WRAP:
            found = aes_key_unwrap(key, ciphertext)
        else:
            found = aes_key_unwrap_with_padding(key, ciphertext)
    except (InvalidTag, InvalidUnwrap, PSKCError):
        found = b""
    if not found:
        raise RowError("a value does not open with this key")
    return found


def _open_cbc(uri: str, key: bytes, ciphertext: bytes) -> bytes:
    if len(ciphertext) % _BLOCK:  # python-pskc lets a ValueError out
        return b""
    return decrypt_by_pskc(uri, key, ciphertext)


def open_asymmetric(method: Node, decrypt: Decrypt, ciphertext: bytes) -> bytes:
    """Decrypt RSA-OAEP in the one form that is accepted.

    RFC 6030's own example uses PKCS#1 v1.5 (`rsa_1_5`): refused, as whoever sees
    which ciphertexts open can open others (Bleichenbacher). `rsa-oaep-mgf1p`, and
    `rsa-oaep` without its parameters, mean SHA-1.

    Raises:
        RowError: another algorithm, digest or mask, or it does not open.
    """
    uri = algorithm_of(method)
    if uri in {f"{_XENC}rsa-1_5", f"{_XENC}rsa_1_5"}:
        raise RowError(f"RSA with PKCS#1 v1.5 is refused: {_OAEP_ALONE}")
    if uri == f"{_XENC}rsa-oaep-mgf1p":
        raise RowError(f"xmlenc#rsa-oaep-mgf1p is refused (SHA-1): {_OAEP_ALONE}")
    if uri != OAEP:
        raise RowError("the cipher is none of those that are accepted")
    method.holds_only(f"{DS}DigestMethod", f"{XENC11}MGF", f"{XENC}OAEPparams")
    digest, mask = method.maybe(f"{DS}DigestMethod"), method.maybe(f"{XENC11}MGF")
    if digest is None or algorithm_of(digest) != OAEP_DIGEST:
        raise RowError(f"another digest, or none, which means SHA-1: {_OAEP_ALONE}")
    if mask is None or algorithm_of(mask) != OAEP_MGF:
        raise RowError(f"another mask, or none, which means SHA-1: {_OAEP_ALONE}")
    params = method.maybe(f"{XENC}OAEPparams")
    label = None if params is None else params.binary()
    if label is not None and label.startswith(_OURS):
        raise RowError("OAEPparams is a label that is kept for something else")
    try:
        return decrypt(ciphertext, label)
    except UnsealFailed:
        pass
    raise RowError("a value does not open with this service's key")


def mac_of(uri: str, key: bytes, ciphertext: bytes) -> bytes:
    """Return the MAC over a ciphertext, its initialisation vector included."""
    return mac(uri, key, ciphertext)


def derive_pbkdf2(
    passphrase: bytes, *, salt: bytes, rounds: int, key_bytes: int, prf: str
) -> bytes:
    """Return the key of a passphrase (RFC 8018 section 5.2); `prf` is of `MACS`."""
    derivation = KeyDerivation()
    derivation.algorithm = PBKDF2[0]
    derivation.pbkdf2_salt, derivation.pbkdf2_iterations = salt, rounds
    derivation.pbkdf2_key_length, derivation.pbkdf2_prf = key_bytes, prf
    return derivation.derive(passphrase)
