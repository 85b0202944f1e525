"""otpseal.ports.Keys: what every implementation does: memory, file and token."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pkcs11_token
import pytest

from otpseal import keypolicy, padding, pkcs11_uri
from otpseal.adapters import file_keys
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import UnsealFailed
from otpseal.ports import Keys
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module", autouse=True)
def _uses_tokens() -> None:
    """Tell the other files of this process."""
    pkcs11_token.USED.append(__name__)


def _from_a_file(keys: RsaKeys, directory: Path, passphrase: bytes | None) -> Keys:
    path = directory / "key.pem"
    file_keys.write_key_pair(keys._private_key, path, passphrase)
    return file_keys.load_keys(path, passphrase)


def _from_a_token(tokens: pkcs11_token.Tokens) -> Keys:
    from otpseal.adapters.pkcs11_keys import Pkcs11Keys

    uri = pkcs11_uri.parse(pkcs11_token.URI)
    return Pkcs11Keys(tokens.module, uri, Secret(pkcs11_token.PIN.encode()))


@pytest.fixture(
    params=["in memory", "from a file", "from an encrypted file", "in a token"]
)
def keys(request: pytest.FixtureRequest, service_keys: RsaKeys, tmp_path: Path) -> Keys:
    """Every implementation of `otpseal.ports.Keys`, over one key."""
    made: dict[str, Callable[[], Keys]] = {
        "in memory": lambda: service_keys,
        "from a file": lambda: _from_a_file(service_keys, tmp_path, None),
        "from an encrypted file": lambda: _from_a_file(service_keys, tmp_path, b"p"),
        "in a token": lambda: _from_a_token(request.getfixturevalue("tokens")),
    }
    return made[request.param]()


def test_kid(keys: Keys, service_keys: RsaKeys) -> None:
    """It is the thumbprint of the public key, wherever the private one is."""
    assert service_keys.kid == keys.kid
    assert keypolicy.key_id(keys.public_key) == keys.kid
    assert service_keys.public_key == keys.public_key


@pytest.mark.parametrize("label", [None, b"", b"otpseal storage key v1", b"l" * 300])
def test_decrypts(keys: Keys, label: bytes | None) -> None:
    """What is sealed to the public key, under the same label alone."""
    sealed = padding.oaep_encrypt(keys.public_key, b"message", label=label)

    assert b"message" == keys.oaep_decrypt(sealed, label=label)
    with pytest.raises(UnsealFailed):
        keys.oaep_decrypt(sealed, label=b"another label")


@pytest.mark.parametrize("length", [0, 1, 32, 446])
def test_decrypts_every_length(keys: Keys, length: int) -> None:
    """From nothing to all that OAEP carries in 4096 bits (RFC 8017 section 7.1.1)."""
    sealed = padding.oaep_encrypt(keys.public_key, b"m" * length)

    assert b"m" * length == keys.oaep_decrypt(sealed)


def test_refuses_what_is_not_for_it(keys: Keys, other_keys: RsaKeys) -> None:
    """Another key's, damaged, of other length, out of range: one error, no memory."""
    sealed = padding.oaep_encrypt(keys.public_key, b"message")
    n = keys.public_key.public_numbers().n
    for ciphertext in (
        padding.oaep_encrypt(other_keys.public_key, b"message"),
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
        sealed[:-1],
        b"\0" + sealed,
        b"",
        bytes(512),
        bytes(511) + b"\1",
        b"\xff" * 512,
        n.to_bytes(512, "big"),
        (n - 1).to_bytes(512, "big"),
    ):
        with pytest.raises(UnsealFailed) as caught:
            keys.oaep_decrypt(ciphertext)
        assert "Decryption failed" == str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        # What failed leaves nothing behind.
        assert b"message" == keys.oaep_decrypt(sealed)


@pytest.mark.parametrize("salt_length", [0, 32, 478])
@pytest.mark.parametrize("message", [b"", b"message", b"m" * 100_000])
def test_signs(keys: Keys, salt_length: int, message: bytes) -> None:
    """What the public key verifies at that salt length."""
    signature = keys.pss_sign(message, salt_length=salt_length)

    padding.pss_verify(keys.public_key, signature, message, salt_length=salt_length)


def test_wraps_a_storage_key(keys: Keys, service_keys: RsaKeys) -> None:
    """A record made by one implementation is opened by another over the same key."""
    storage_key = StorageKey.generate()
    event = b"an event"

    there = StorageKey.unwrap(storage_key.wrap(keys), service_keys)
    back = StorageKey.unwrap(storage_key.wrap(service_keys), keys)

    expected = storage_key.authenticate(event)
    assert [expected] * 2 == [key.authenticate(event) for key in (there, back)]


def test_works_in_many_threads(keys: Keys) -> None:
    """The service decrypts in worker threads with one instance, bad ones between."""
    sealed = [padding.oaep_encrypt(keys.public_key, b"%d" % n) for n in range(32)]
    bad = [text[:-1] + bytes([text[-1] ^ 1]) for text in sealed]

    def opened(ciphertext: bytes) -> bytes | None:
        try:
            return keys.oaep_decrypt(ciphertext)
        except UnsealFailed:
            return None

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(opened, [*sealed, *bad, *sealed]))

    numbers = [b"%d" % n for n in range(32)]
    assert [*numbers, *[None] * 32, *numbers] == done


def test_prints_nothing(keys: Keys) -> None:
    """No number of the private key, and no PIN, is in its repr."""
    assert "Keys object at 0x" in repr(keys)
    assert pkcs11_token.PIN not in repr(vars(keys))
