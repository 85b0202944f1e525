"""otpseal.storage_key: the record that rests in the store, and the seeds under it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import SeedUnreadable, StoreMismatch
from otpseal.padding import oaep_encrypt
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

_RAW = bytes(range(32))
_SEED = Secret(bytes.fromhex("00112233445566778899aabbccddeeff" * 2))
_LABEL = b"otpseal storage key v1"
_SHA256 = hashes.SHA256()

_accounts = st.text(max_size=40)


@pytest.fixture(scope="module")
def storage_key() -> StorageKey:
    """The storage key of 32 rising bytes."""
    return StorageKey(Secret(_RAW))


@pytest.fixture(scope="module")
def record(storage_key: StorageKey, service_keys: RsaKeys) -> bytes:
    """Its record."""
    return storage_key.wrap(service_keys)


@dataclass
class _Record:
    """The record's fields, read and written independently of the code under test."""

    version: bytes
    kid: bytes
    wrapped: bytes
    signature: bytes

    @classmethod
    def read(cls, record: bytes) -> "_Record":
        fields, at = [], 1
        while at < len(record):
            end = at + 2 + int.from_bytes(record[at : at + 2], "big")
            fields.append(record[at + 2 : end])
            at = end
        assert at == len(record)
        return cls(record[:1], *fields)

    def written(self) -> bytes:
        fields = (self.kid, self.wrapped, self.signature)
        return self.version + b"".join(_lp16(field) for field in fields)

    def signed(self) -> bytes:
        return _lp16(_LABEL) + self.version + _lp16(self.kid) + _lp16(self.wrapped)


def _lp16(field: bytes) -> bytes:
    return len(field).to_bytes(2, "big") + field


def _subkey(info: bytes) -> bytes:
    return HKDF(_SHA256, 32, salt=None, info=info).derive(_RAW)


def _same(one: StorageKey, other: StorageKey) -> bool:
    return one.fingerprint(_SEED) == other.fingerprint(_SEED)


class TestRecord:
    """The wrapped and signed storage key."""

    def test_opens_with_its_key(
        self, storage_key: StorageKey, record: bytes, service_keys: RsaKeys
    ) -> None:
        """What was wrapped comes back."""
        assert _same(storage_key, StorageKey.unwrap(record, service_keys))

    def test_bytes(self, record: bytes, service_keys: RsaKeys) -> None:
        """The layout is the documented one, taken apart by other means."""
        fields = _Record.read(record)
        scheme = padding.OAEP(padding.MGF1(_SHA256), _SHA256, _LABEL)
        pss = padding.PSS(padding.MGF1(_SHA256), salt_length=32)

        opened = service_keys._private_key.decrypt(fields.wrapped, scheme)
        service_keys.public_key.verify(fields.signature, fields.signed(), pss, _SHA256)

        assert b"\1" == fields.version
        assert service_keys.kid.encode("ascii") == fields.kid
        assert _RAW == opened
        assert 1 + 2 + 43 + 2 + 512 + 2 + 512 == len(record)

    def test_a_record_made_by_other_means_opens(
        self, storage_key: StorageKey, service_keys: RsaKeys
    ) -> None:
        """The documentation is enough to write one."""
        pss = padding.PSS(padding.MGF1(_SHA256), salt_length=32)
        scheme = padding.OAEP(padding.MGF1(_SHA256), _SHA256, _LABEL)
        wrapped = service_keys.public_key.encrypt(_RAW, scheme)
        fields = _Record(b"\1", service_keys.kid.encode("ascii"), wrapped, b"")
        fields.signature = service_keys._private_key.sign(fields.signed(), pss, _SHA256)

        opened = StorageKey.unwrap(fields.written(), service_keys)

        assert _same(storage_key, opened)

    def test_another_key_is_named(self, record: bytes, other_keys: RsaKeys) -> None:
        """The error says which key was given, and that a store is never re-keyed."""
        with pytest.raises(StoreMismatch, match=f"{other_keys.kid}.*never re-keyed"):
            StorageKey.unwrap(record, other_keys)

    def test_every_byte_counts(self, record: bytes, service_keys: RsaKeys) -> None:
        """A bit changed anywhere, in field or length, is refused."""
        for position in range(len(record)):
            changed = bytearray(record)
            changed[position] ^= 1 << position % 8
            with pytest.raises(StoreMismatch):
                StorageKey.unwrap(bytes(changed), service_keys)

    def test_every_length_counts(self, record: bytes, service_keys: RsaKeys) -> None:
        """No beginning of the record opens, nor the record with a byte more."""
        for length in range(0, len(record), 7):
            with pytest.raises(StoreMismatch):
                StorageKey.unwrap(record[:length], service_keys)
        for more in (record + b"\0", b"\0" + record, record + record):
            with pytest.raises(StoreMismatch):
                StorageKey.unwrap(more, service_keys)

    @pytest.mark.parametrize("version", [0, 2, 255])
    def test_another_version_is_refused_though_signed(
        self, record: bytes, service_keys: RsaKeys, version: int
    ) -> None:
        """A version that this program does not know, even if genuine."""
        fields = _Record.read(record)
        fields.version = bytes([version])
        fields.signature = service_keys.pss_sign(fields.signed(), salt_length=32)

        with pytest.raises(StoreMismatch):
            StorageKey.unwrap(fields.written(), service_keys)

    def test_wrapping_takes_the_private_key(
        self, record: bytes, service_keys: RsaKeys, other_keys: RsaKeys
    ) -> None:
        """Who has the public key and the database alone cannot plant a storage key.

        The attacker wraps a key of his choice; he can keep the old signature, leave
        it out, or sign by a key of his own.
        """
        fields = _Record.read(record)
        fields.wrapped = oaep_encrypt(
            service_keys.public_key, b"attacker" * 4, label=_LABEL
        )
        own = other_keys.pss_sign(fields.signed(), salt_length=32)

        for signature in (fields.signature, b"", bytes(512), own):
            fields.signature = signature
            with pytest.raises(StoreMismatch):
                StorageKey.unwrap(fields.written(), service_keys)

    def test_a_planted_record_needs_all_of_the_signature(
        self, record: bytes, service_keys: RsaKeys
    ) -> None:
        """Signatures of the same key over anything else do not serve.

        Neither without the domain tag, nor without lengths, nor with another salt,
        nor a commit proof's.
        """
        fields = _Record.read(record)
        bare = _LABEL + fields.version + fields.kid + fields.wrapped
        untagged = fields.signed()[2 + len(_LABEL) :]
        for message, salt_length in (
            (bare, 32),
            (untagged, 32),
            (fields.wrapped, 32),
            (fields.signed(), 478),
            (fields.signed(), 31),
            (b"0" * 40, 32),
        ):
            fields.signature = service_keys.pss_sign(message, salt_length=salt_length)
            with pytest.raises(StoreMismatch):
                StorageKey.unwrap(fields.written(), service_keys)

    @pytest.mark.parametrize(
        ("content", "label"),
        [
            (b"short", _LABEL),
            (bytes(31), _LABEL),
            (bytes(33), _LABEL),
            (b"", _LABEL),
            (_RAW, None),
            (_RAW, b"otpseal storage key v2"),
        ],
    )
    def test_signed_but_not_a_storage_key(
        self,
        record: bytes,
        service_keys: RsaKeys,
        content: bytes,
        label: bytes | None,
    ) -> None:
        """Another length or label is refused though the signature is genuine.

        Without the label a sealed seed could be passed off as a storage key.
        """
        fields = _Record.read(record)
        fields.wrapped = oaep_encrypt(service_keys.public_key, content, label=label)
        fields.signature = service_keys.pss_sign(fields.signed(), salt_length=32)

        with pytest.raises(StoreMismatch):
            StorageKey.unwrap(fields.written(), service_keys)

    @given(junk=st.binary(max_size=1200))
    def test_any_bytes_are_refused(self, service_keys: RsaKeys, junk: bytes) -> None:
        """The parser is total: nothing but StoreMismatch comes out."""
        for record in (junk, b"\1" + junk):
            with pytest.raises(StoreMismatch):
                StorageKey.unwrap(record, service_keys)

    @settings(deadline=None)
    @given(wrapped=st.binary(max_size=600), signature=st.binary(max_size=600))
    def test_any_fields_are_refused(
        self, service_keys: RsaKeys, wrapped: bytes, signature: bytes
    ) -> None:
        """Nor behind the right kid, whatever the other fields are."""
        kid = service_keys.kid.encode("ascii")
        record = _Record(b"\1", kid, wrapped, signature).written()

        with pytest.raises(StoreMismatch):
            StorageKey.unwrap(record, service_keys)


class TestSeedAtRest:
    """Seeds under the storage key."""

    @given(raw=st.binary(max_size=128), account=_accounts)
    def test_opens_for_its_account(
        self, storage_key: StorageKey, raw: bytes, account: str
    ) -> None:
        """For every seed and account name; 29 bytes longer than the seed."""
        sealed = storage_key.seal_seed(Secret(raw), account)

        assert raw == storage_key.open_seed(sealed, account).reveal()
        assert len(raw) + 29 == len(sealed)

    @given(account=_accounts, other=_accounts)
    def test_opens_for_no_other_account(
        self, storage_key: StorageKey, account: str, other: str
    ) -> None:
        """A row copied to another account is refused, and says which account."""
        sealed = storage_key.seal_seed(_SEED, account)
        if account == other:
            return

        with pytest.raises(SeedUnreadable) as raised:
            storage_key.open_seed(sealed, other)

        assert other == raised.value.account
        assert repr(other) in str(raised.value)

    def test_bytes(self, storage_key: StorageKey) -> None:
        """Version || nonce || AES-256-GCM under the documented subkey and aad."""
        nonce = bytes(range(100, 112))
        aes = AESGCM(_subkey(b"otpseal seeds at rest v1"))
        aad = b"otpseal seed v1" + _lp16("konto-ä".encode())
        expected = b"\1" + nonce + aes.encrypt(nonce, _SEED.reveal(), aad)

        sealed = storage_key.seal_seed(_SEED, "konto-ä", random=lambda count: nonce)

        assert expected == sealed

    def test_nonces_are_fresh(self, storage_key: StorageKey) -> None:
        """No nonce is used twice, for AES-GCM breaks if one is."""
        nonces = {storage_key.seal_seed(_SEED, "default")[1:13] for _ in range(1000)}

        assert 1000 == len(nonces)

    def test_every_byte_counts(self, storage_key: StorageKey) -> None:
        """A bit changed anywhere is refused."""
        sealed = storage_key.seal_seed(_SEED, "default")

        for bit in range(8 * len(sealed)):
            changed = bytearray(sealed)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(SeedUnreadable):
                storage_key.open_seed(bytes(changed), "default")

    @given(junk=st.binary(max_size=100), account=_accounts)
    def test_any_bytes_are_refused(
        self, storage_key: StorageKey, junk: bytes, account: str
    ) -> None:
        """The parser is total: nothing but SeedUnreadable comes out."""
        for sealed in (junk, b"\1" + junk):
            with pytest.raises(SeedUnreadable):
                storage_key.open_seed(sealed, account)

    def test_another_storage_key_does_not_open(self, storage_key: StorageKey) -> None:
        """A seed from another store is refused."""
        sealed = StorageKey.generate().seal_seed(_SEED, "default")

        with pytest.raises(SeedUnreadable, match="'default'"):
            storage_key.open_seed(sealed, "default")


class TestSubkeys:
    """One storage key, three uses that never meet."""

    def test_fingerprint(self, storage_key: StorageKey) -> None:
        """HMAC-SHA-256 under a subkey of its own; equal for equal seeds alone."""
        mac = HMAC(_subkey(b"otpseal seed fingerprint v1"), _SHA256)
        mac.update(_SEED.reveal())

        assert mac.finalize() == storage_key.fingerprint(_SEED)
        other = storage_key.fingerprint(Secret(bytes(32)))
        assert other != storage_key.fingerprint(_SEED)
        assert not _same(storage_key, StorageKey.generate())

    def test_event_mac(self, storage_key: StorageKey) -> None:
        """HMAC-SHA-256 under another subkey: a fingerprint is no event's MAC."""
        mac = HMAC(_subkey(b"otpseal audit event v1"), _SHA256)
        mac.update(b"event")

        assert mac.finalize() == storage_key.authenticate(b"event")
        assert storage_key.authenticate(_SEED.reveal()) != storage_key.fingerprint(
            _SEED
        )

    @pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
    def test_only_32_bytes_are_a_storage_key(self, length: int) -> None:
        """Another length is the caller's mistake."""
        with pytest.raises(ValueError, match="32 bytes"):
            StorageKey(Secret(bytes(length)))

    def test_generates_from_the_random_source(self) -> None:
        """32 bytes of it, and by default of the system's."""
        made = StorageKey.generate(random=lambda count: _RAW[:count])

        assert _same(StorageKey(Secret(_RAW)), made)
        assert not _same(StorageKey.generate(), StorageKey.generate())

    def test_prints_nothing(self, storage_key: StorageKey) -> None:
        """Neither the key nor a subkey is in its repr."""
        assert "StorageKey object" in repr(storage_key)


def test_wrapping_asks_nothing_but_the_protocol(
    storage_key: StorageKey, service_keys: RsaKeys
) -> None:
    """A key that lives elsewhere (a device) can wrap: four members are enough."""

    class Device:
        kid: str = service_keys.kid
        public_key: RSAPublicKey = service_keys.public_key
        oaep_decrypt: Callable[..., bytes] = staticmethod(service_keys.oaep_decrypt)
        pss_sign: Callable[..., bytes] = staticmethod(service_keys.pss_sign)

    record = storage_key.wrap(Device())

    assert _same(storage_key, StorageKey.unwrap(record, service_keys))
