"""RSA paddings of RFC 8017: OAEP (section 7.1) and PSS (section 8.1).

They take any RSA key, so that published test vectors run against them; which keys
otpseal accepts is decided in `otpseal.keypolicy`, where keys come in. Except for
vectors of other parameters the hash is SHA-256, with MGF1 over the same hash.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
)

from otpseal.errors import ProofRefused, UnsealFailed

_SHA256 = hashes.SHA256()


def _oaep(label: bytes | None, algorithm: hashes.HashAlgorithm) -> padding.OAEP:
    return padding.OAEP(
        mgf=padding.MGF1(algorithm=algorithm), algorithm=algorithm, label=label
    )


def oaep_capacity(key_bits: int) -> int:
    """Return how many bytes OAEP-SHA-256 carries under a key of `key_bits`.

    RFC 8017 section 7.1.1: k - 2 hLen - 2, that is 446 for 4096 bits. May be
    negative for toy keys.
    """
    return (key_bits + 7) // 8 - 2 * _SHA256.digest_size - 2


def oaep_key_bits(message_bytes: int) -> int:
    """Return the key size, in whole bytes, that carries a message: 4624 for 512.

    The inverse of `oaep_capacity`.
    """
    return 8 * (message_bytes + 2 * _SHA256.digest_size + 2)


def oaep_encrypt(
    key: RSAPublicKey,
    message: bytes,
    *,
    label: bytes | None = None,
    algorithm: hashes.HashAlgorithm = _SHA256,
) -> bytes:
    """Encrypt `message` (at most `oaep_capacity` bytes); as long as the modulus.

    Raises:
        ValueError: the message is too long for the key.
    """
    return key.encrypt(message, _oaep(label, algorithm))


def oaep_decrypt(
    key: RSAPrivateKey,
    ciphertext: bytes,
    *,
    label: bytes | None = None,
    algorithm: hashes.HashAlgorithm = _SHA256,
) -> bytes:
    """Decrypt what `oaep_encrypt` made.

    Raises:
        UnsealFailed: for every cause alike (Manger's attack lives on the
            difference; RFC 8017 section 7.1.2, note).
    """
    try:
        return key.decrypt(ciphertext, _oaep(label, algorithm))
    except ValueError:
        raise UnsealFailed from None


def pss_max_salt_length(key_bits: int) -> int:
    """Return the longest PSS-SHA-256 salt for `key_bits`: 478 for 4096.

    RFC 8017 section 9.1.1: emLen - hLen - 2.
    """
    return (key_bits - 1 + 7) // 8 - _SHA256.digest_size - 2


def pss_sign(
    key: RSAPrivateKey,
    message: bytes,
    *,
    salt_length: int,
    algorithm: hashes.HashAlgorithm = _SHA256,
) -> bytes:
    """Sign `message`; the signature is as long as the modulus."""
    scheme = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=salt_length)
    return key.sign(message, scheme, algorithm)


def pss_verify(
    key: RSAPublicKey,
    signature: bytes,
    message: bytes,
    *,
    salt_length: int,
    algorithm: hashes.HashAlgorithm = _SHA256,
) -> None:
    """Check a signature made with exactly `salt_length` bytes of salt.

    The length is an integer on purpose: `PSS.MAX_LENGTH` means "any length" when
    verifying.

    Raises:
        ProofRefused: the signature is not by this key over this message.
    """
    scheme = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=salt_length)
    try:
        key.verify(signature, message, scheme, algorithm)
    except InvalidSignature:
        raise ProofRefused("the signature does not verify") from None
