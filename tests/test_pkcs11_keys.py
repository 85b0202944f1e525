"""otpseal.adapters.pkcs11_keys: a real token, and what goes wrong with tokens."""

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pkcs11_token
import pytest
from pkcs11_token import PIN, URI, Tokens

from otpseal import padding, pkcs11_uri
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import KeyRefused, KeyUnavailable, UnsealFailed
from otpseal.secret import Secret

if TYPE_CHECKING:
    from otpseal.adapters.pkcs11_keys import Pkcs11Keys


def _open(tokens: Tokens, uri: str = URI, *, pin: str | None = PIN) -> "Pkcs11Keys":
    from otpseal.adapters.pkcs11_keys import Pkcs11Keys

    secret = None if pin is None else Secret(pin.encode())
    return Pkcs11Keys(tokens.module, pkcs11_uri.parse(uri), secret)


@pytest.fixture(scope="module", autouse=True)
def _own_process() -> None:
    """Ask for a new process, if this one has used a token before."""
    pkcs11_token.expect_unused(__name__)


@pytest.fixture
def keys(tokens: Tokens) -> "Pkcs11Keys":
    """The import key in its token."""
    return _open(tokens)


@pytest.fixture
def sealed(service_keys: RsaKeys) -> bytes:
    """A message to the import key."""
    return padding.oaep_encrypt(service_keys.public_key, b"message")


class TestFinding:
    """By label; exactly one token and one key, or a refusal that says what to do."""

    @pytest.mark.parametrize(
        "uri",
        [
            URI,
            f"{URI};id=%01",
            "pkcs11:token=otpseal%20tests;id=%01",
            f"{URI};manufacturer=Mozilla%20Foundation;model=NSS%203",
            f"{URI};serial=0000000000000000;type=private",
        ],
    )
    def test_finds(self, tokens: Tokens, service_keys: RsaKeys, uri: str) -> None:
        """By object, by id, by both, and by what else is said of the token."""
        assert service_keys.kid == _open(tokens, uri).kid

    @pytest.mark.parametrize(
        ("uri", "told"),
        [
            ("pkcs11:token=otpseal;object=import%20key", "no token 'otpseal'"),
            (f"{URI};serial=1", "no token 'otpseal tests'"),
            (f"{URI};model=NSS", "no token 'otpseal tests'"),
            (f"{URI};manufacturer=Mozilla", "no token 'otpseal tests'"),
            (f"{URI};id=%02", "no private key of that object and id"),
            ("pkcs11:token=otpseal%20tests;object=import", "no private key of that"),
            ("pkcs11:token=otpseal%20tests;object=twins", "2 private keys .* by id="),
            ("pkcs11:token=double;object=import%20key", "2 tokens .* by serial="),
        ],
    )
    def test_exactly_one(self, tokens: Tokens, uri: str, told: str) -> None:
        """None, and two, are refused."""
        with pytest.raises(KeyUnavailable, match=told):
            _open(tokens, uri)

    def test_twins_are_told_apart(self, tokens: Tokens) -> None:
        """Each by its id."""
        uri = "pkcs11:token=otpseal%20tests;object=twins;id=%0"

        assert 2 == len({_open(tokens, uri + digit).kid for digit in "23"})

    @pytest.mark.parametrize(
        ("name", "told"),
        [("weak", "has 2048 bits"), ("no%20decrypting", "CKA_DECRYPT")],
    )
    def test_policy(self, tokens: Tokens, name: str, told: str) -> None:
        """The policy of keys in files holds for those in tokens."""
        with pytest.raises(KeyRefused, match=told):
            _open(tokens, f"pkcs11:token=otpseal%20tests;object={name}")

    def test_what_the_token_cannot_do(self, tokens: Tokens) -> None:
        """A token without OAEP-SHA-256 is refused before a store is made for it."""
        from otpseal.adapters.pkcs11_keys import Pkcs11Keys

        class Unable(Pkcs11Keys):
            def oaep_decrypt(
                self, ciphertext: bytes, *, label: bytes | None = None
            ) -> bytes:
                raise UnsealFailed

        with pytest.raises(KeyRefused, match="does not decrypt RSA-OAEP with SHA-256"):
            Unable(tokens.module, pkcs11_uri.parse(URI), Secret(PIN.encode()))

    def test_modules_that_are_none(self, tokens: Tokens, tmp_path: Path) -> None:
        """No file, no library, a library of another kind: named in the error."""
        from otpseal.adapters.pkcs11_keys import Pkcs11Keys

        nonsense = tmp_path / "nonsense.so"
        nonsense.write_bytes(b"no library")
        softoken = pkcs11_token.softoken()
        assert softoken
        # NSS's own module does not start without the configuration p11-kit gives it.
        for module in (tmp_path / "none.so", nonsense, softoken):
            with pytest.raises(KeyUnavailable, match=str(module)):
                Pkcs11Keys(module, pkcs11_uri.parse(URI), None)


class TestPin:
    """The PIN: needed, and never tried twice."""

    def test_without(self, tokens: Tokens) -> None:
        """The token then shows no private key: the error names the setting.

        In a process of its own: a login is the whole process's.
        """
        assert "OTPSEAL_PKCS11_PIN_FILE" in _child(tokens, _OPEN.format(pin=None))

    def test_wrong(self, tokens: Tokens) -> None:
        """It is refused, and is in no message."""
        told = _child(tokens, _OPEN.format(pin="Secret(b'wrong-pin')"))

        assert "refuses the PIN in OTPSEAL_PKCS11_PIN_FILE (PinIncorrect)" in told
        assert "wrong-pin" not in told

    def test_a_refused_pin_is_not_tried_again(self, tokens: Tokens) -> None:
        """Tokens lock themselves after a few wrong PINs: one login for many uses."""
        assert ["False", "True", "True"] == _child(tokens, _PIN_CHANGED).split()


class TestLosing:
    """What is lost is opened again; the private operation is repeated once."""

    def test_closed_session(self, keys: "Pkcs11Keys", sealed: bytes) -> None:
        """Closed behind our back: the next use opens another."""
        keys._session.close()  # type: ignore[union-attr]

        assert b"message" == keys.oaep_decrypt(sealed)

    def test_closed_by_us(self, keys: "Pkcs11Keys", sealed: bytes) -> None:
        """`close` is no end."""
        keys.close()
        keys.close()

        assert b"message" == keys.oaep_decrypt(sealed)

    def test_logged_out(
        self, tokens: Tokens, keys: "Pkcs11Keys", sealed: bytes
    ) -> None:
        """A logout is the whole process's: others log in again when they notice."""
        other = _open(tokens)
        other.close()  # logs out, if it was this one that logged in
        keys.close()

        assert b"message" == other.oaep_decrypt(sealed)
        assert b"message" == keys.oaep_decrypt(sealed)

    @pytest.mark.parametrize("operation", ["decrypt", "sign"])
    def test_token_server_killed(
        self,
        tokens: Tokens,
        keys: "Pkcs11Keys",
        sealed: bytes,
        operation: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The module lost its device: it is initialised anew, and the log says so."""
        assert tokens.cut_off()

        with caplog.at_level(logging.WARNING):
            if operation == "decrypt":
                assert b"message" == keys.oaep_decrypt(sealed)
            else:
                signature = keys.pss_sign(b"message", salt_length=32)
                padding.pss_verify(
                    keys.public_key, signature, b"message", salt_length=32
                )
        assert ["the token's session is lost (DeviceError): logging in again"] == [
            record.getMessage() for record in caplog.records
        ]

    def test_many_threads_lose_it_at_once(
        self,
        tokens: Tokens,
        keys: "Pkcs11Keys",
        sealed: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Each gets its answer, and one of them opens it again for all."""
        assert tokens.cut_off()
        together = threading.Barrier(8)

        def opened(_: int) -> bytes:
            together.wait(20)
            return keys.oaep_decrypt(sealed)

        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(opened, range(8)))

        assert [b"message"] * 8 == done
        assert 1 == len(caplog.records)

    def test_bad_ciphertexts_lose_nothing(
        self, keys: "Pkcs11Keys", sealed: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A stranger's rubbish neither opens sessions nor fills the log."""
        session = keys._session

        damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
        for ciphertext in (damaged, b"", sealed[1:], b"\xff" * 512, bytes(512)):
            with pytest.raises(UnsealFailed):
                keys.oaep_decrypt(ciphertext)

        assert session is keys._session
        assert [] == caplog.records

    def test_gone_for_good(
        self,
        tokens: Tokens,
        keys: "Pkcs11Keys",
        sealed: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """To a caller it is as any ciphertext that does not open; back, it works."""
        with tokens.unreachable():
            with pytest.raises(UnsealFailed) as caught:
                keys.oaep_decrypt(sealed)
            with pytest.raises(KeyUnavailable):
                keys.pss_sign(b"message", salt_length=32)

        assert "Decryption failed" == str(caught.value)
        assert "the token did not decrypt" in caplog.text
        assert b"message" == keys.oaep_decrypt(sealed)

    def test_another_key_by_that_name(self, keys: "Pkcs11Keys", sealed: bytes) -> None:
        """If the token is exchanged for another, its key is not taken for ours."""
        keys._uri = pkcs11_uri.parse("pkcs11:token=otpseal%20tests;object=other%20key")
        keys.close()

        with pytest.raises(KeyUnavailable, match="another key by that name"):
            keys.pss_sign(b"message", salt_length=32)
        with pytest.raises(UnsealFailed):
            keys.oaep_decrypt(sealed)


def test_the_private_half_stays(tokens: Tokens, keys: "Pkcs11Keys") -> None:
    """The token does not hand out the private exponent of the key that we use."""
    from pkcs11 import Attribute
    from pkcs11.exceptions import AttributeSensitive

    with pytest.raises(AttributeSensitive):
        keys._key[Attribute.PRIVATE_EXPONENT]


def test_a_forked_child_opens_it_anew(tokens: Tokens, sealed: bytes) -> None:
    """Parent and children, forked while a thread is inside, all decrypt."""
    told = _child(tokens, _FORK, sealed.hex())

    assert ["message"] * 4 == told.split()


def _child(tokens: Tokens, program: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", _HEAD + program, str(tokens.module), URI, *arguments],
        env={**os.environ, pkcs11_token.ADDRESS: tokens.address},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert 0 == ran.returncode, ran.stderr.decode()
    return ran.stdout.decode()


_HEAD = f"""
import os, sys, threading
from pathlib import Path
from otpseal import pkcs11_uri
from otpseal.adapters import pkcs11_keys
from otpseal.adapters.pkcs11_keys import Pkcs11Keys
from otpseal.errors import KeyUnavailable, UnsealFailed
from otpseal.secret import Secret

module, uri = Path(sys.argv[1]), pkcs11_uri.parse(sys.argv[2])
PIN = Secret({PIN.encode()!r})
"""

_OPEN = """
try:
    Pkcs11Keys(module, uri, {pin})
except KeyUnavailable as error:
    print(error)
"""

# As if the PIN were changed in the token while the program runs.
_PIN_CHANGED = """
keys = Pkcs11Keys(module, uri, PIN)
keys.close()
keys._pin = Secret(b"not any more")
for _ in range(3):
    try:
        keys.pss_sign(b"message", salt_length=32)
    except KeyUnavailable as error:
        print("not tried again" in str(error))
"""

_FORK = """
sealed = bytes.fromhex(sys.argv[3])
keys = Pkcs11Keys(module, uri, PIN)
keys._lock.acquire()  # as if a thread were inside, which the child does not have
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        import signal
        signal.alarm(30)
        if len(children) == 0:  # or a child that has keys of its own first
            keys = Pkcs11Keys(module, uri, PIN)
        print(keys.oaep_decrypt(sealed).decode(), flush=True)
        os._exit(0)
    children.append(pid)
keys._lock.release()
codes = [os.waitpid(pid, 0)[1] for pid in children]
assert codes == [0, 0, 0], codes
print(keys.oaep_decrypt(sealed).decode())
"""
