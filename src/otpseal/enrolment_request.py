"""A service's request for a seed: PKCS#10 (RFC 2986), by the key that is to open it.

The signature is the proof that whoever asks holds the private key: a seed is never
sealed to a key that somebody only copied. In the request stands the digest of a
ticket (challengePassword, RFC 2985 section 5.4.1), which says who asks and for which
account, and the names of the service's other keys (subjectAltName with URIs of RFC
9278, in an extensionRequest of RFC 2985 section 5.4.2): they travel beside it, and
nobody on the way can change them. Its subject says nothing.

It is signed with RSASSA-PSS (SHA-256, MGF1-SHA-256, salt 32), which import keys do
already, in software and in tokens. So the request is put together here: the library's
builder wants the private key itself, which a token does not give.
"""

from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import AttributeOID

from otpseal import keypolicy
from otpseal.errors import EnrolmentRefused
from otpseal.kid import kid_in, uri_of
from otpseal.requested_keys import Requested
from otpseal.storage_key import WrappingKey

#: Longest request that is looked at, in bytes of DER: RSA-8192 needs 2.3 KiB.
MAX_REQUEST_BYTES: Final = 8 * 1024

#: Longest challenge, in characters (RFC 2985 section 5.4.1).
MAX_CHALLENGE_CHARS: Final = 255

#: RFC 4055 section 3.1: as long as the hash.
PSS_SALT_BYTES: Final = 32

# DER, X.690: identifiers of what is written here.
_INTEGER_0: Final = bytes.fromhex("020100")
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_UTF8_STRING: Final = 0x0C
_CONTEXT_0: Final = 0xA0
#: uniformResourceIdentifier of a GeneralName, RFC 5280 section 4.2.1.6.
_URI: Final = 0x86
_SHORT: Final = 0x80
#: 1.2.840.113549.1.9.7, PKCS#9 challengePassword.
_CHALLENGE_PASSWORD: Final = bytes.fromhex("06092a864886f70d010907")
#: 1.2.840.113549.1.9.14, PKCS#9 extensionRequest.
_EXTENSION_REQUEST: Final = bytes.fromhex("06092a864886f70d01090e")
#: 2.5.29.17, subjectAltName.
_SUBJECT_ALT_NAME: Final = bytes.fromhex("0603551d11")
#: RFC 4055 section 3.1: id-RSASSA-PSS with SHA-256, MGF1 with SHA-256, salt 32.
_PSS_SHA256: Final = bytes.fromhex(
    "304106092a864886f70d01010a3034"
    "a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
    "a203020120"
)

_MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.AttributeNotFound,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
#: Where extensions are asked for: PKCS#9's attribute, and the one of old Windows that
#: parsers take for it.
_EXTENSION_ATTRIBUTES: Final = frozenset(
    x509.ObjectIdentifier(dotted)
    for dotted in ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14")
)


def make(keys: WrappingKey, challenge: str, named: Iterable[str] = ()) -> bytes:
    """Return the request of a service, DER.

    Args:
        keys: the import key, which signs.
        challenge: what stands for the ticket, 1 to 255 characters; see
            `otpseal.subscription.challenge_of`.
        named: kids of the keys that will travel beside the request.

    Raises:
        ValueError: the challenge is too long, or empty.
    """
    if not 1 <= len(challenge) <= MAX_CHALLENGE_CHARS:
        raise ValueError("the challenge has no length that fits")
    password = _der(_UTF8_STRING, challenge.encode("utf-8"))
    attributes = [_der(_SEQUENCE, _CHALLENGE_PASSWORD + _der(_SET, password))]
    if uris := [_der(_URI, uri_of(kid).encode("ascii")) for kid in named]:
        attributes.append(_extension_request(uris))
    information = _der(
        _SEQUENCE,
        _INTEGER_0
        + _der(_SEQUENCE, b"")
        + keys.public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        # In the order of a SET OF (X.690 section 11.6).
        + _der(_CONTEXT_0, b"".join(sorted(attributes))),
    )
    signature = keys.pss_sign(information, salt_length=PSS_SALT_BYTES)
    # The octet before the bits says how many of the last one's are unused: none.
    signed = _der(_BIT_STRING, b"\0" + signature)
    return _der(_SEQUENCE, information + _PSS_SHA256 + signed)


def read(request: bytes) -> Requested:
    """Return the key that a request proves to be held, and what it says.

    Args:
        request: DER, from a stranger; of `make`, or of another program: signed with
            PSS or PKCS#1 v1.5, SHA-256 or longer.

    Raises:
        EnrolmentRefused: not a request, not signed by its own key, without a
            challenge, or with extensions that cannot be read in one way alone.
        KeyRefused: the key is against the policy.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise EnrolmentRefused
    try:
        found = x509.load_der_x509_csr(request)
        key = found.public_key()
        challenge = _challenge(found)
        named = _named(found)
    except _MALFORMED:
        raise EnrolmentRefused from None
    if not isinstance(key, RSAPublicKey):
        raise EnrolmentRefused
    # First the policy: verifying under a key of 16384 bits is work for nothing.
    keypolicy.check_public_key(key)
    if not _is_signed(found):
        raise EnrolmentRefused
    return Requested(key, challenge, named)


def _named(request: x509.CertificateSigningRequest) -> frozenset[str]:
    """Return the kids that a request names; its other names and extensions say nothing.

    Raises:
        ValueError, DuplicateExtension, UnsupportedGeneralNameType: they cannot be
            read, or are asked for twice.
    """
    asked = [each for each in request.attributes if each.oid in _EXTENSION_ATTRIBUTES]
    # As with two challenges: the next parser would take the other.
    if len(asked) > 1:
        raise ValueError("more than one extensionRequest")
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return frozenset(kid for kid in map(kid_in, uris) if kid is not None)


def _challenge(request: x509.CertificateSigningRequest) -> str:
    """Return the challengePassword.

    Raises:
        AttributeNotFound, ValueError: it has none, or more, or no text.
    """
    # A parser that takes the first of two is asked for the other by the next.
    ours = [
        attribute
        for attribute in request.attributes
        if attribute.oid == AttributeOID.CHALLENGE_PASSWORD
    ]
    if len(ours) != 1:
        raise ValueError("not one challengePassword")
    text: str = ours[0].value.decode("utf-8")
    if not 1 <= len(text) <= MAX_CHALLENGE_CHARS:
        raise ValueError("no challengePassword that fits")
    return text


def _is_signed(request: x509.CertificateSigningRequest) -> bool:
    """Tell whether the request is signed by its own key, as well as we sign."""
    try:
        algorithm = request.signature_hash_algorithm
        scheme = request.signature_algorithm_parameters
        is_genuine = request.is_signature_valid
    except _MALFORMED:
        return False
    strong = isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512)
    return strong and isinstance(scheme, PSS | PKCS1v15) and is_genuine


def _extension_request(uris: Iterable[bytes]) -> bytes:
    """Return the attribute that asks for a subjectAltName of these URIs, in DER."""
    names = _der(_OCTET_STRING, _der(_SEQUENCE, b"".join(uris)))
    extension = _der(_SEQUENCE, _SUBJECT_ALT_NAME + names)
    extensions = _der(_SET, _der(_SEQUENCE, extension))
    return _der(_SEQUENCE, _EXTENSION_REQUEST + extensions)


def _der(tag: int, content: bytes) -> bytes:
    """Return content with its tag and length (X.690 sections 8.1 and 10.1)."""
    size = len(content)
    if size < _SHORT:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _SHORT | len(length)]) + length + content
