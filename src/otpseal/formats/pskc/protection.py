"""What opens a container's values: RFC 6030 section 6.

By a key that both sides have (6.1), by a passphrase (6.2), or by the service's import
key (6.3), which either encrypts the values themselves or, in an EncryptedKey, a key
for them. Which of these it is says the container, and whoever imports it has to have
meant the same: a value that anyone could have encrypted to the public key must not
pass for one by the owner of the pre-shared key.
"""

import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal.errors import FileRefused
from otpseal.formats.pskc import ciphers
from otpseal.formats.pskc.tree import DS, PKCS5, PSKC, XENC, XENC11, Node
from otpseal.formats.row import RowError, parse_number
from otpseal.secret import Secret

_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_FOREIGN: Final = "the container is encrypted to another key than this service's"


@dataclass(frozen=True, slots=True)
class ImportKey:
    """The service's import key, as far as containers need it.

    Attributes:
        kid: its RFC 7638 thumbprint.
        public_key: its public half, to be found in certificates.
        decrypt: its RSA-OAEP decryption.
    """

    kid: str
    public_key: RSAPublicKey
    decrypt: ciphers.Decrypt = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unlocking:
    """What whoever imports a container has to open it by.

    Attributes:
        import_key: opens those of section 6.3; not looked at if another is given.
        preshared: the key of section 6.1, 16, 24 or 32 bytes.
        passphrase: that of section 6.2.
    """

    import_key: ImportKey
    preshared: Secret | None = None
    passphrase: Secret | None = None

    def __post_init__(self) -> None:
        if self.preshared is not None and self.passphrase is not None:
            raise ValueError("a key or a passphrase, not both")


@dataclass(frozen=True, slots=True)
class Protection:
    """Opens the values of one container.

    Attributes:
        key: opens its symmetric ciphers, or None.
        import_key: opens RSA-OAEP, or None where that would be a forgery.
        mac: the algorithm and key of its ValueMACs, or None.
    """

    key: Secret | None = None
    import_key: ImportKey | None = None
    mac: tuple[str, Secret] | None = None

    @property
    def is_clear(self) -> bool:
        """Whether nothing in the container is encrypted."""
        return self.key is None and self.import_key is None

    def open(self, value: Node, *, seal: Node | None, inner: bool = False) -> bytes:
        """Return what is in an EncryptedValue.

        Args:
            value: of xenc's EncryptedDataType.
            seal: its ValueMAC, verified before anything else is done with it.
            inner: whether it is a MACKey, which has no ValueMAC.

        Raises:
            RowError: anything is not as it has to be; the same words for a wrong MAC
                and a wrong key.
        """
        value.holds_only(f"{XENC}EncryptionMethod", f"{XENC}CipherData")
        method = value.one(f"{XENC}EncryptionMethod")
        ciphertext = _ciphertext(value)
        if seal is not None:
            self._verify(seal, ciphertext)
        elif ciphers.algorithm_of(method) in ciphers.CBC and not inner:
            raise RowError("ValueMAC is missing, and AES-CBC has no authentication")
        if not ciphers.is_symmetric(method):
            if self.import_key is None and not self.is_clear:
                raise RowError("a value is encrypted in another way than the container")
            decrypt = _never if self.import_key is None else self.import_key.decrypt
            return ciphers.open_asymmetric(method, decrypt, ciphertext)
        if self.key is None:
            raise RowError(
                "a value is encrypted by a key that is not in the container: give it"
                " by --pskc-key-file"
            )
        return ciphers.open_symmetric(method, self.key.reveal(), ciphertext)

    def _verify(self, seal: Node, ciphertext: bytes) -> None:
        if self.mac is None:
            raise RowError("there is a ValueMAC, but no MACMethod")
        algorithm, key = self.mac
        expected = ciphers.mac_of(algorithm, key.reveal(), ciphertext)
        if not hmac.compare_digest(expected, seal.binary()):
            raise RowError("ValueMAC does not match: another key, or altered")


def protection_of(container: Node, unlocking: Unlocking) -> Protection:
    """Return what opens a container's values.

    Raises:
        FileRefused: what was given does not open it, or is not what it asks for.
        RowError: it is not as RFC 6030 says.
    """
    found = _without_mac(container.maybe(f"{PSKC}EncryptionKey"), unlocking)
    method = container.maybe(f"{PSKC}MACMethod")
    # python-pskc writes one without an algorithm beside ciphers that need no MAC.
    if method is None or "Algorithm" not in method.attributes:
        return found
    method.holds_only(f"{PSKC}MACKey")
    algorithm = ciphers.algorithm_of(method)
    if algorithm not in ciphers.MACS:
        raise RowError("MACMethod is none of HMAC with SHA-1, -256, -384 and -512")
    inner = method.maybe(f"{PSKC}MACKey")
    if inner is not None:
        key = Secret(found.open(inner, seal=None, inner=True))
    elif found.key is not None:
        key = found.key
    else:
        raise RowError("MACMethod has no key")
    if len(key) < ciphers.MIN_MAC_KEY:
        raise RowError("MACKey has fewer than 16 bytes")
    return Protection(found.key, found.import_key, (algorithm, key))


def _without_mac(given: Node | None, unlocking: Unlocking) -> Protection:
    """Return the protection that EncryptionKey describes, of ds's KeyInfoType."""
    derived = given and given.maybe(f"{XENC11}DerivedKey")
    wrapped = given and given.maybe(f"{XENC}EncryptedKey")
    if derived is not None and wrapped is not None:
        raise RowError("EncryptionKey names two keys")
    if unlocking.passphrase is not None:
        if derived is None:
            raise FileRefused("the container is not encrypted by a passphrase")
        return Protection(_derived(derived, unlocking.passphrase))
    if derived is not None:
        raise FileRefused(
            "the container is encrypted by a passphrase: give --pskc-passphrase-file"
        )
    public = given and given.maybe(f"{DS}X509Data", f"{DS}KeyValue")
    if unlocking.preshared is not None:
        if wrapped is not None or public is not None:
            raise FileRefused("the container is not encrypted by a pre-shared key")
        return Protection(unlocking.preshared)
    if given is None:
        return Protection()
    _require_ours(given, unlocking.import_key)
    if wrapped is None:
        return Protection(import_key=unlocking.import_key)
    return Protection(_unwrapped(wrapped, unlocking.import_key))


def _derived(derived: Node, passphrase: Secret) -> Secret:
    method = derived.one(f"{XENC11}KeyDerivationMethod")
    if ciphers.algorithm_of(method) not in ciphers.PBKDF2:
        raise RowError("the key is derived by something else than PBKDF2")
    given = method.one(f"{PKCS5}PBKDF2-params", f"{XENC11}PBKDF2-params")

    def named(name: str) -> tuple[str, ...]:
        # RFC 6030's example writes them without a namespace, XML Encryption 1.1 with.
        return name, f"{XENC11}{name}", f"{PKCS5}{name}"

    parts = ("Salt", "IterationCount", "KeyLength", "PRF")
    given.holds_only(*(name for part in parts for name in named(part)))
    salt = given.one(*named("Salt")).one(*named("Specified")).binary()
    rounds = parse_number(given.one(*named("IterationCount")).leaf())
    key_bytes = parse_number(given.one(*named("KeyLength")).leaf())
    prf = given.maybe(*named("PRF"))
    algorithm = (prf and ciphers.algorithm_of(prf)) or ciphers.MACS[0]
    if rounds not in ciphers.ROUNDS:
        raise RowError("PBKDF2 has no rounds, or more than 1,000,000")
    if len(salt) not in ciphers.SALT_BYTES or key_bytes not in ciphers.KEY_BYTES:
        raise RowError("PBKDF2 has a salt or key of a size that is not accepted")
    if algorithm not in ciphers.MACS:
        raise RowError("PBKDF2 uses something else than HMAC with SHA-1 or SHA-2")
    return Secret(
        ciphers.derive_pbkdf2(
            passphrase.reveal(),
            salt=salt,
            rounds=rounds,
            key_bytes=key_bytes,
            prf=algorithm,
        )
    )


def _unwrapped(wrapped: Node, import_key: ImportKey) -> Secret:
    """Return the key in an EncryptedKey (XML Encryption 1.1, section 3.5.1)."""
    wrapped.holds_only(
        f"{XENC}EncryptionMethod",
        f"{DS}KeyInfo",
        f"{XENC}CipherData",
        f"{XENC}ReferenceList",
        f"{XENC}CarriedKeyName",
    )
    info = wrapped.maybe(f"{DS}KeyInfo")
    if info is not None:
        _require_ours(info, import_key)
    method = wrapped.one(f"{XENC}EncryptionMethod")
    key = ciphers.open_asymmetric(method, import_key.decrypt, _ciphertext(wrapped))
    if len(key) not in ciphers.KEY_BYTES:
        raise RowError("EncryptedKey holds no key of 16, 24 or 32 bytes")
    return Secret(key)


def _require_ours(info: Node, import_key: ImportKey) -> None:
    """Check that a KeyInfo, if it says which key it means, means the import key."""
    name = info.maybe(f"{DS}KeyName")
    if name and _KID.fullmatch(name.leaf()) and name.leaf() != import_key.kid:
        raise FileRefused(_FOREIGN)
    data = info.maybe(f"{DS}X509Data")
    for certificate in data.all(f"{DS}X509Certificate") if data else ():
        try:
            found = x509.load_der_x509_certificate(certificate.binary()).public_key()
        except ValueError:
            found = None
        if found != import_key.public_key:
            raise FileRefused(_FOREIGN)


def _ciphertext(value: Node) -> bytes:
    data = value.one(f"{XENC}CipherData")
    # CipherReference would be fetched from elsewhere.
    data.holds_only(f"{XENC}CipherValue")
    return data.one(f"{XENC}CipherValue").binary()


def _never(_ciphertext: bytes, _label: bytes | None) -> bytes:
    raise RowError("a value is encrypted, but EncryptionKey is missing")
