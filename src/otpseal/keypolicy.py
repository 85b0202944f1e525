"""Which RSA keys otpseal accepts, and how their PEM forms are read and named.

Accepted: 3072 to 8192 bits, e = 65537, two primes. Private keys are PKCS#8 PEM
(traditional PEM is read too), public keys SubjectPublicKeyInfo PEM. Pure: reading
files is the adapters' business.
"""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from otpseal import base64url
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.kid import kid_of

MIN_KEY_BITS = 3072
MAX_KEY_BITS = 8192
PUBLIC_EXPONENT = 65537

#: Longest PEM that is parsed: an encrypted 8192-bit PKCS#8 file is about 6.5 KiB.
MAX_PEM_BYTES = 16 * 1024

_BOM = b"\xef\xbb\xbf"


def check_public_key(key: RSAPublicKey) -> RSAPublicKey:
    """Return `key` if its size and exponent are acceptable.

    Raises:
        KeyRefused: says what is wrong and what is accepted.
    """
    if not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
        raise KeyRefused(
            f"the RSA key has {key.key_size} bits;"
            f" {MIN_KEY_BITS} to {MAX_KEY_BITS} are accepted"
        )
    numbers = key.public_numbers()
    if numbers.e != PUBLIC_EXPONENT:
        raise KeyRefused(f"the RSA key's public exponent is not {PUBLIC_EXPONENT}")
    # Parsers let an even modulus pass; encrypting to it would fail much later.
    if numbers.n % 2 == 0:
        raise KeyRefused("the RSA key's modulus is even: this is not an RSA key")
    return key


def parse_public_key(pem: bytes) -> RSAPublicKey:
    r"""Read a public key from PEM; CRLF, a BOM or a missing last newline are fine.

    Raises:
        KeyRefused: not a PEM public key, not RSA, or against the policy. A PEM
            whose newlines are the two characters ``\n`` gets a message of its own:
            it is the commonest mistake when a PEM is pasted into JSON.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise KeyRefused("the public key is too large to be an RSA key in PEM form")
    if b"\\n" in pem:
        raise KeyRefused(
            "the public key has the two characters \\n where line breaks belong:"
            " send real newlines (in JSON, one backslash and n)"
        )
    try:
        key = serialization.load_pem_public_key(pem.removeprefix(_BOM).strip() + b"\n")
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(
            "this is not a public key in PEM form (SubjectPublicKeyInfo,"
            " '-----BEGIN PUBLIC KEY-----')"
        ) from None
    if not isinstance(key, RSAPublicKey):
        raise KeyRefused("the public key is not an RSA key")
    return check_public_key(key)


def parse_private_key(pem: bytes, passphrase: bytes | None = None) -> RSAPrivateKey:
    """Read and fully validate a private key; costs about 0.4 s for 4096 bits.

    Raises:
        KeyRefused: not a PEM private key, not RSA, inconsistent, or against the
            policy.
        KeyUnavailable: the PEM needs a passphrase, or the one given is wrong.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise KeyRefused("the private key is too large to be an RSA key in PEM form")
    text = pem.removeprefix(_BOM).strip() + b"\n"
    encrypted = b"ENCRYPTED" in text
    if encrypted and not passphrase:
        raise KeyUnavailable(
            "the private key is protected by a passphrase: set"
            " OTPSEAL_KEY_PASSPHRASE_FILE to a file that holds it"
        )
    try:
        key = serialization.load_pem_private_key(
            text, password=passphrase if encrypted else None
        )
    # TypeError: the text speaks of encryption, but the key in it has none, or the
    # other way round.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise KeyUnavailable(
                "the private key does not open with this passphrase (or the file"
                " is damaged)"
            ) from None
        raise KeyRefused(
            "this is not a valid RSA private key of two primes in PEM form"
            " (PKCS#8, '-----BEGIN PRIVATE KEY-----')"
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyRefused("the private key is not an RSA key")
    check_public_key(key.public_key())
    return key


def public_pem(key: RSAPublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo PEM of `key`, ending in a newline."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem(key: PrivateKeyTypes, passphrase: bytes | None = None) -> bytes:
    """Return the PKCS#8 PEM of any key, encrypted if a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def rsa_members(key: RSAPublicKey) -> dict[str, str]:
    """Return the required members of the key's JWK (RFC 7518 section 6.3.1)."""
    numbers = key.public_numbers()
    return {"e": _encoded(numbers.e), "kty": "RSA", "n": _encoded(numbers.n)}


def key_id(key: RSAPublicKey) -> str:
    """Return the kid of a key."""
    return kid_of(rsa_members(key))


def _encoded(value: int) -> str:
    return base64url.encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
