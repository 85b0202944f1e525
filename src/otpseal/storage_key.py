"""The storage key: 32 random bytes that protect what rests in the store.

It feeds HKDF only; each use has a subkey with its own `info`. It rests as a record,
wrapped by the import key and signed by it: OAEP alone would let anyone who can write
the database wrap a storage key of his own choosing under the public key, and plant
seeds that he knows.

Bytes (integers big endian, `lp16(x)` = two bytes of length, then x)::

    record       = version (1 or 2) || lp16(kid) || lp16(wrapped) || lp16(signature)
    wrapped (1)  = RSA-OAEP(SHA-256, label "otpseal storage key v1", storage key)
    wrapped (2)  = likewise, storage key || fingerprint, throttle and recovery subkey
    signature    = RSA-PSS(SHA-256, salt 32) over
                   lp16("otpseal storage key v1") || version || lp16(kid)
                   || lp16(wrapped)
    seed at rest = version (1 or 2) || nonce (12) || AES-256-GCM(subkey, seed, aad)
    aad (1)      = "otpseal seed v1" || lp16(place)
    aad (2)      = "otpseal seed v2" || lp16(account id) || lp16(parameters)
    own key      = version (1) || nonce (12) || AES-256-GCM(subkey, key, aad)
    aad          = "otpseal service key v1" || lp16(purpose) || lp16(kid)

Version 1 binds a seed to its place alone; version 2 also to the parameters that make
codes of it, or whoever can write the database could make another, weaker factor of
the same seed.

A record of version 2 is that of a storage key which took the place of another. What
was made one-way under subkeys of the first (fingerprints of seeds that are gone, names
of unknown accounts, recovery codes) cannot be made anew, so these three subkeys stay.

A new form takes a new version byte; parsers accept the versions they know, exactly.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from otpseal.errors import ProofRefused, SeedUnreadable, StoreMismatch, UnsealFailed
from otpseal.padding import oaep_encrypt, pss_verify
from otpseal.secret import Secret

STORAGE_KEY_BYTES: Final = 32
WRAP_LABEL: Final = b"otpseal storage key v1"
PSS_SALT_BYTES: Final = 32

_VERSION: Final = b"\x01"
_VERSION_KEPT: Final = b"\x02"
_SEED_VERSION_BOUND: Final = b"\x02"
_SUBKEY_BYTES: Final = 32
_KEPT: Final = 3
_NONCE_BYTES: Final = 12
_SEED_AAD: Final = b"otpseal seed v1"
_SEED_AAD_BOUND: Final = b"otpseal seed v2"
_SECRET_AAD: Final = b"otpseal service key v1"
_DUMMY_SEED_BYTES: Final = 20

Random = Callable[[int], bytes]


class WrappingKey(Protocol):
    """The RSA key pair that wraps and signs: `otpseal.ports.Keys` is one."""

    @property
    def kid(self) -> str:
        """RFC 7638 thumbprint of the public key."""

    @property
    def public_key(self) -> RSAPublicKey:
        """The public half."""

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """Decrypt RSA-OAEP-SHA-256.

        Raises:
            UnsealFailed: for every cause alike.
        """

    def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
        """Sign with RSA-PSS-SHA-256 and that many bytes of salt."""


class StorageKey:
    """Subkeys of one storage key, ready for use. Prints nothing of itself."""

    def __init__(self, key: Secret, kept: Secret | None = None) -> None:
        if len(key) != STORAGE_KEY_BYTES:
            raise ValueError(f"a storage key has {STORAGE_KEY_BYTES} bytes")
        if kept is not None and len(kept) != _KEPT * _SUBKEY_BYTES:
            raise ValueError(f"{_KEPT} subkeys are kept")
        #: Rises when this becomes another key.
        self.generation = 0
        self._key = key
        self._kept = kept
        self._seeds = AESGCM(self._subkey(b"otpseal seeds at rest v1"))
        self._fingerprints = self._subkey(b"otpseal seed fingerprint v1")
        self._events = self._subkey(b"otpseal audit event v1")
        self._dummies = self._subkey(b"otpseal dummy seed v1")
        self._throttled = self._subkey(b"otpseal throttle v1")
        self._recovery = self._subkey(b"otpseal recovery code v1")
        self._backups = self._subkey(b"otpseal backup v1")
        self._pins = self._subkey(b"otpseal pinned authority v1")
        self._secrets = AESGCM(self._subkey(b"otpseal service keys v1"))
        self._import_keys = self._subkey(b"otpseal import key v1")
        if kept is not None:
            self._fingerprints, self._throttled, self._recovery = _cut(kept)

    def _subkey(self, info: bytes) -> bytes:
        # RFC 5869; no salt: the input is uniformly random already (section 3.1).
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(
            self._key.reveal()
        )

    @classmethod
    def generate(cls, random: Random = secrets.token_bytes) -> "StorageKey":
        """Make a new storage key from `random`."""
        return cls(Secret(random(STORAGE_KEY_BYTES)))

    def successor(
        self, *, keeps_recovery: bool = True, random: Random = secrets.token_bytes
    ) -> "StorageKey":
        """Make a storage key that takes the place of this one.

        Fingerprints and the names of budgets stay as they are. So do the digests of
        recovery codes, unless `keeps_recovery` is False: then none is right any more.
        """
        recovery = self._recovery if keeps_recovery else random(_SUBKEY_BYTES)
        kept = Secret(self._fingerprints + self._throttled + recovery)
        return StorageKey(Secret(random(STORAGE_KEY_BYTES)), kept)

    def become(self, other: "StorageKey") -> None:
        """Be another key from now on, for everybody who has this object."""
        generation = self.generation + 1
        self.__dict__.update({**other.__dict__, "generation": generation})

    def wrap(self, keys: WrappingKey) -> bytes:
        """Return the record that only the private key of `keys` opens."""
        content, version = self._key.reveal(), _VERSION
        if self._kept is not None:
            content, version = content + self._kept.reveal(), _VERSION_KEPT
        wrapped = oaep_encrypt(keys.public_key, content, label=WRAP_LABEL)
        kid = keys.kid.encode("ascii")
        signature = keys.pss_sign(
            _signed_bytes(version, kid, wrapped), salt_length=PSS_SALT_BYTES
        )
        return version + _lp16(kid) + _lp16(wrapped) + _lp16(signature)

    @staticmethod
    def record_kid(record: bytes) -> str:
        """Return the kid of the key that a record says it is wrapped by.

        Raises:
            StoreMismatch: it is no record.
        """
        try:
            return _parse_record(record)[0].decode("ascii")
        except UnicodeDecodeError:
            raise _damaged_record() from None

    @classmethod
    def unwrap(cls, record: bytes, keys: WrappingKey) -> "StorageKey":
        """Open a record: first its signature, then its content.

        Raises:
            StoreMismatch: the record is damaged, forged, or by another key.
        """
        kid, wrapped, signature = _parse_record(record)
        if kid != keys.kid.encode("ascii"):
            raise StoreMismatch(
                f"this store belongs to another private key: the key given is"
                f" {keys.kid}. Point OTPSEAL_KEY_FILE, or OTPSEAL_KEY, at the"
                " key the store was made with; its id stands in the record, and a store"
                " is never re-keyed"
            )
        try:
            pss_verify(
                keys.public_key,
                signature,
                _signed_bytes(record[:1], kid, wrapped),
                salt_length=PSS_SALT_BYTES,
            )
            content = keys.oaep_decrypt(wrapped, label=WRAP_LABEL)
        except (ProofRefused, UnsealFailed):
            raise _damaged_record() from None
        key, kept = content[:STORAGE_KEY_BYTES], content[STORAGE_KEY_BYTES:]
        has_kept = record[:1] == _VERSION_KEPT
        expected = STORAGE_KEY_BYTES + has_kept * _KEPT * _SUBKEY_BYTES
        if len(content) != expected:
            raise _damaged_record()
        return cls(Secret(key), Secret(kept) if has_kept else None)

    def seal_seed(
        self,
        seed: Secret,
        place: str,
        *,
        parameters: bytes | None = None,
        random: Random = secrets.token_bytes,
    ) -> bytes:
        """Encrypt a seed to rest in one place; 29 bytes longer than the seed.

        Args:
            seed: what is sealed.
            place: the account's id, or the authority's pair and kid.
            parameters: canonical bytes of the account's parameters; None for the
                authority, whose seeds have none (version 1).
            random: gives the nonce.
        """
        nonce = random(_NONCE_BYTES)
        ciphertext = self._seeds.encrypt(nonce, seed.reveal(), _aad(place, parameters))
        version = _VERSION if parameters is None else _SEED_VERSION_BOUND
        return version + nonce + ciphertext

    def open_seed(
        self, sealed: bytes, place: str, *, parameters: bytes | None = None
    ) -> Secret:
        """Decrypt what `seal_seed` made for the same place and parameters.

        Raises:
            SeedUnreadable: damaged, moved, with other parameters, or by another key.
        """
        version = _VERSION if parameters is None else _SEED_VERSION_BOUND
        if sealed[:1] != version:
            raise SeedUnreadable(place)
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return Secret(
                self._seeds.decrypt(nonce, ciphertext, _aad(place, parameters))
            )
        except (InvalidTag, ValueError):
            raise SeedUnreadable(place) from None

    def seal_secret(
        self,
        secret: Secret,
        purpose: str,
        name: str,
        *,
        random: Random = secrets.token_bytes,
    ) -> bytes:
        """Encrypt a private key of the service's own to rest; 29 bytes longer.

        Args:
            secret: what is sealed.
            purpose: what it is for; it opens for nothing else.
            name: which of them, its kid.
            random: gives the nonce.
        """
        nonce = random(_NONCE_BYTES)
        aad = _secret_aad(purpose, name)
        return _VERSION + nonce + self._secrets.encrypt(nonce, secret.reveal(), aad)

    def open_secret(self, sealed: bytes, purpose: str, name: str) -> Secret:
        """Decrypt what `seal_secret` made for the same purpose and name.

        Raises:
            SeedUnreadable: damaged, moved, or by another key.
        """
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _VERSION:
                raise InvalidTag
            aad = _secret_aad(purpose, name)
            return Secret(self._secrets.decrypt(nonce, ciphertext, aad))
        except (InvalidTag, ValueError):
            raise SeedUnreadable(name) from None

    def fingerprint(self, seed: Secret) -> bytes:
        """Return 32 bytes that tell seeds apart and say nothing about them.

        Zeros at the end do not count: HMAC fills its key with them (RFC 2104 section
        2), so that a seed and one with zeros more make the same codes.
        """
        canonical = seed.reveal().rstrip(b"\0")
        return hmac.digest(self._fingerprints, canonical, "sha256")

    def authenticate(self, canonical_event: bytes) -> bytes:
        """Return the 32-byte MAC of an audit event's canonical bytes."""
        return hmac.digest(self._events, canonical_event, "sha256")

    def dummy_seed(self, account: str) -> Secret:
        """Return the seed that attempts on an unknown account are matched against.

        Always the same for the same name, and known to nobody.
        """
        mac = hmac.digest(self._dummies, account.encode("utf-8"), "sha256")
        return Secret(mac[:_DUMMY_SEED_BYTES])

    def throttle_key(self, account: str) -> bytes:
        """Return the 32 bytes by which a caller's budget for an account is kept.

        The same form for accounts that exist and those that do not: the table says
        nothing about which names were tried.
        """
        return hmac.digest(self._throttled, account.encode("utf-8"), "sha256")

    def recovery_digest(self, account: str, code: bytes) -> bytes:
        """Return the 32 bytes that a recovery code of an account rests as."""
        place = _lp16(account.encode("utf-8"))
        return hmac.digest(self._recovery, place + code, "sha256")

    def import_key_mac(self, canonical_row: bytes) -> bytes:
        """Return the 32-byte MAC of an import key's row."""
        return hmac.digest(self._import_keys, canonical_row, "sha256")

    def trust_mac(self, canonical_pin: bytes) -> bytes:
        """Return the 32-byte MAC of a pinned authority's canonical bytes."""
        return hmac.digest(self._pins, canonical_pin, "sha256")

    def backup_mac(self) -> "hmac.HMAC":
        """Return a fresh HMAC-SHA-256 over a backup's bytes."""
        return hmac.new(self._backups, digestmod="sha256")


def _lp16(part: bytes) -> bytes:
    return len(part).to_bytes(2, "big") + part


def _aad(place: str, parameters: bytes | None) -> bytes:
    if parameters is None:
        return _SEED_AAD + _lp16(place.encode("utf-8"))
    return _SEED_AAD_BOUND + _lp16(place.encode("utf-8")) + _lp16(parameters)


def _secret_aad(purpose: str, name: str) -> bytes:
    parts = _SECRET_AAD, _lp16(purpose.encode("utf-8")), _lp16(name.encode("utf-8"))
    return b"".join(parts)


def _cut(kept: Secret) -> list[bytes]:
    raw = kept.reveal()
    return [raw[at : at + _SUBKEY_BYTES] for at in range(0, len(raw), _SUBKEY_BYTES)]


def _signed_bytes(version: bytes, kid: bytes, wrapped: bytes) -> bytes:
    return _lp16(WRAP_LABEL) + version + _lp16(kid) + _lp16(wrapped)


def _damaged_record() -> StoreMismatch:
    return StoreMismatch(
        "the store's key record is damaged or was not made by this private key:"
        " restore the database from a backup"
    )


def _parse_record(record: bytes) -> tuple[bytes, bytes, bytes]:
    if record[:1] not in {_VERSION, _VERSION_KEPT}:
        raise _damaged_record()
    parts = []
    rest = record[1:]
    for _ in range(3):
        length = int.from_bytes(rest[:2], "big")
        part, rest = rest[2 : 2 + length], rest[2 + length :]
        if len(part) != length:
            raise _damaged_record()
        parts.append(part)
    if rest:
        raise _damaged_record()
    kid, wrapped, signature = parts
    return kid, wrapped, signature
