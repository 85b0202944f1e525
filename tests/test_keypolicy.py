"""otpseal.keypolicy: which keys are accepted, and how forgivingly they are read."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicKey,
    RSAPublicNumbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from openssl_cli import openssl

from otpseal import keypolicy, padding
from otpseal.adapters.file_keys import generate_private_key
from otpseal.errors import KeyRefused, KeyUnavailable

_RFC7638 = json.loads(
    (Path(__file__).parent / "vectors" / "rfc7638_section_3_1.json").read_text()
)
_PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    """The smallest key that is accepted."""
    return generate_private_key(3072)


def _modulus_of(bits: int) -> RSAPublicKey:
    """Return a public key of that size; nobody knows its private half."""
    return RSAPublicNumbers(65537, 2**bits - 1).public_key()


def _spki(key: RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pkcs8(key: RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class TestSizes:
    """3072 to 8192 bits and e = 65537."""

    @pytest.mark.parametrize("bits", [3072, 3073, 4096, 4624, 8191, 8192])
    def test_accepted(self, bits: int) -> None:
        """Every size from 3072 to 8192, both included."""
        read = keypolicy.parse_public_key(_spki(_modulus_of(bits)))

        assert bits == read.key_size

    @pytest.mark.parametrize("bits", [1024, 2048, 3071, 8193, 16384])
    def test_refused(self, bits: int) -> None:
        """The refusal says how large the key is and what is accepted."""
        with pytest.raises(KeyRefused, match=f"{bits} bits; 3072 to 8192"):
            keypolicy.parse_public_key(_spki(_modulus_of(bits)))

    @pytest.mark.parametrize("bits", [2048, 3070])
    def test_private_refused(self, bits: int) -> None:
        """A private key is measured by the same rule."""
        pem = _pkcs8(generate_private_key(bits))

        with pytest.raises(KeyRefused, match=f"{bits} bits; 3072 to 8192"):
            keypolicy.parse_private_key(pem)

    @pytest.mark.parametrize("exponent", [3, 17, 65539, 2**32 + 1])
    def test_another_exponent_is_refused(self, exponent: int) -> None:
        """Whatever e is, if it is not 65537."""
        key = RSAPublicNumbers(exponent, 2**4096 - 1).public_key()

        with pytest.raises(KeyRefused, match="exponent is not 65537"):
            keypolicy.parse_public_key(_spki(key))

    def test_a_private_key_with_exponent_3_is_refused(self) -> None:
        """Made by openssl, so that it is a sound key but for that."""
        with pytest.raises(KeyRefused, match="exponent is not 65537"):
            keypolicy.parse_private_key(openssl("genrsa", "-3", "3072"))

    def test_an_even_modulus_is_refused(self) -> None:
        """Else the authority could not seal to it, and would find out too late."""
        key = RSAPublicNumbers(65537, 2**4096 - 2).public_key()

        with pytest.raises(KeyRefused, match="even"):
            keypolicy.parse_public_key(_spki(key))

    @settings(deadline=None)
    @given(low_bits=st.integers(0, 2**64 - 1))
    def test_what_is_accepted_can_be_sealed_to(self, low_bits: int) -> None:
        """A stranger's key either is refused or takes a seed."""
        key = RSAPublicNumbers(65537, 2**4096 - 2**64 + low_bits).public_key()
        try:
            read = keypolicy.parse_public_key(_spki(key))
        except KeyRefused:
            return

        assert 512 == len(padding.oaep_encrypt(read, b"0" * 64))


class TestKinds:
    """RSA with two primes, and nothing else."""

    def test_three_primes_are_refused(self) -> None:
        """Made by `openssl genrsa -primes 3`."""
        pem = openssl("genrsa", "-primes", "3", "4096")

        with pytest.raises(KeyRefused, match="two primes"):
            keypolicy.parse_private_key(pem)

    def test_other_algorithms_are_refused(self) -> None:
        """A key on an elliptic curve is a sound key, but not ours."""
        curve = ec.generate_private_key(ec.SECP256R1())

        with pytest.raises(KeyRefused, match="not an RSA key"):
            keypolicy.parse_public_key(_spki(curve.public_key()))
        with pytest.raises(KeyRefused, match="not an RSA key"):
            keypolicy.parse_private_key(_pkcs8(ed25519.Ed25519PrivateKey.generate()))

    def test_an_inconsistent_private_key_is_refused(self, key: RSAPrivateKey) -> None:
        """A d that belongs to another key would give signatures of nothing."""
        numbers = key.private_numbers()
        wrong = RSAPrivateNumbers(
            p=numbers.p,
            q=numbers.q,
            d=numbers.d + 2,
            dmp1=numbers.dmp1 + 2,
            dmq1=numbers.dmq1 + 2,
            iqmp=numbers.iqmp,
            public_numbers=numbers.public_numbers,
        ).private_key(unsafe_skip_rsa_key_validation=True)

        with pytest.raises(KeyRefused, match="not a valid RSA private key"):
            keypolicy.parse_private_key(_pkcs8(wrong))

    def test_halves_are_not_confused(self, key: RSAPrivateKey) -> None:
        """A private PEM is no public key, and the other way round."""
        with pytest.raises(KeyRefused, match="not a public key in PEM form"):
            keypolicy.parse_public_key(_pkcs8(key))
        with pytest.raises(KeyRefused, match="not a valid RSA private key"):
            keypolicy.parse_private_key(_spki(key.public_key()))


_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "as written": lambda pem: pem,
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "BOM": lambda pem: b"\xef\xbb\xbf" + pem,
    "BOM and CRLF": lambda pem: b"\xef\xbb\xbf" + pem.replace(b"\n", b"\r\n"),
    "no final newline": lambda pem: pem.rstrip(b"\n"),
    "white space around": lambda pem: b"\n \n" + pem + b"\n\t\n",
}


class TestReading:
    """PEM as it arrives from JSON, editors and other programs."""

    @pytest.mark.parametrize("form", _FORMS.values(), ids=_FORMS)
    def test_public_forms(
        self, key: RSAPrivateKey, form: Callable[[bytes], bytes]
    ) -> None:
        """Line endings, a BOM and white space around do not matter."""
        read = keypolicy.parse_public_key(form(_spki(key.public_key())))

        assert key.public_key() == read

    @pytest.mark.parametrize("form", _FORMS.values(), ids=_FORMS)
    def test_private_forms(
        self, key: RSAPrivateKey, form: Callable[[bytes], bytes]
    ) -> None:
        """Nor do they in private keys."""
        read = keypolicy.parse_private_key(form(_pkcs8(key)))

        assert key.private_numbers() == read.private_numbers()

    def test_a_literal_backslash_n_is_explained(self, key: RSAPrivateKey) -> None:
        """The commonest mistake gets a message that says what to send."""
        pem = _spki(key.public_key()).replace(b"\n", b"\\n")

        with pytest.raises(KeyRefused, match="send real newlines"):
            keypolicy.parse_public_key(pem)

    def test_traditional_private_pem(self, key: RSAPrivateKey) -> None:
        """`-----BEGIN RSA PRIVATE KEY-----`, as openssl writes it, is read too."""
        pem = openssl("rsa", "-traditional", stdin=_pkcs8(key))

        read = keypolicy.parse_private_key(pem)

        assert b"BEGIN RSA PRIVATE KEY" in pem
        assert key.private_numbers() == read.private_numbers()

    @pytest.mark.parametrize(
        "pem",
        [
            b"",
            b"hello",
            b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
            b"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN PUBLIC KEY-----",
            b"\0" * 100,
        ],
        ids=["empty", "text", "hollow", "no base64", "no DER", "no end", "NULs"],
    )
    def test_no_key_at_all(self, pem: bytes) -> None:
        """What is no PEM is refused as such."""
        with pytest.raises(KeyRefused):
            keypolicy.parse_public_key(pem)
        with pytest.raises(KeyRefused):
            keypolicy.parse_private_key(pem)

    def test_what_is_too_large_is_not_parsed(self, key: RSAPrivateKey) -> None:
        """A megabyte around a good key is refused unread."""
        with pytest.raises(KeyRefused, match="too large"):
            keypolicy.parse_public_key(b"\n" * 1_000_000 + _spki(key.public_key()))
        with pytest.raises(KeyRefused, match="too large"):
            keypolicy.parse_private_key(b"\n" * 1_000_000 + _pkcs8(key))

    def test_the_largest_key_fits(self) -> None:
        """A limit that refused an encrypted 8192-bit key would be too low."""
        # The PEM of 8192 bits has twice the bytes of 4096 bits, and a little.
        pem = keypolicy.private_pem(generate_private_key(4096), _PASSPHRASE)

        assert 2 * len(pem) + 512 < keypolicy.MAX_PEM_BYTES

    @given(pem=st.binary(max_size=300))
    def test_parsers_are_total(self, pem: bytes) -> None:
        """Whatever the bytes, nothing but the two errors comes out."""
        for armour in (b"", b"PUBLIC KEY", b"PRIVATE KEY", b"RSA PRIVATE KEY"):
            body = base64.encodebytes(pem)
            text = (
                b"-----BEGIN %b-----\n%b-----END %b-----\n" % (armour, body, armour)
                if armour
                else pem
            )
            with pytest.raises(KeyRefused):
                keypolicy.parse_public_key(text)
            with pytest.raises((KeyRefused, KeyUnavailable)):
                keypolicy.parse_private_key(text, _PASSPHRASE)

    @settings(deadline=None, max_examples=300)
    @given(data=st.data())
    def test_a_damaged_key_is_refused_or_a_key(self, data: st.DataObject) -> None:
        """A byte of the DER changed: still nothing but our errors or a whole key."""
        der = bytearray(
            _modulus_of(4096).public_bytes(
                serialization.Encoding.DER,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
        )
        position = data.draw(st.integers(0, len(der) - 1))
        der[position] = data.draw(st.integers(0, 255))
        body = base64.encodebytes(der)
        pem = b"-----BEGIN PUBLIC KEY-----\n%b-----END PUBLIC KEY-----\n" % body
        try:
            read = keypolicy.parse_public_key(pem)
        except KeyRefused:
            return

        expected = (read.key_size + 7) // 8
        assert expected == len(padding.oaep_encrypt(read, b"0" * 64))


class TestPassphrase:
    """Private keys that are encrypted."""

    @pytest.mark.parametrize("form", ["ours", "openssl", "traditional"])
    def test_opens_with_the_passphrase_alone(
        self, key: RSAPrivateKey, form: str
    ) -> None:
        """By openssl or by us: right opens, none and wrong say what to do."""
        aes = ("-aes-256-cbc", "-passout", f"pass:{_PASSPHRASE.decode()}")
        pem = {
            "ours": lambda: keypolicy.private_pem(key, _PASSPHRASE),
            "openssl": lambda: openssl("pkcs8", "-topk8", *aes[1:], stdin=_pkcs8(key)),
            "traditional": lambda: openssl(
                "rsa", "-traditional", *aes, stdin=_pkcs8(key)
            ),
        }[form]()

        read = keypolicy.parse_private_key(pem, _PASSPHRASE)

        assert key.private_numbers() == read.private_numbers()
        assert b"ENCRYPTED" in pem
        with pytest.raises(KeyUnavailable, match="OTPSEAL_KEY_PASSPHRASE_FILE"):
            keypolicy.parse_private_key(pem)
        with pytest.raises(KeyUnavailable, match="does not open with this passphrase"):
            keypolicy.parse_private_key(pem, b"wrong")

    def test_a_key_without_one_opens_with_any(self, key: RSAPrivateKey) -> None:
        """One passphrase setting serves protected and plain keys."""
        read = keypolicy.parse_private_key(_pkcs8(key), _PASSPHRASE)

        assert key.private_numbers() == read.private_numbers()

    def test_talk_of_encryption_around_a_plain_key(self, key: RSAPrivateKey) -> None:
        """The word in a comment leads to an error of ours, not to a TypeError."""
        pem = b"this key is not ENCRYPTED\n" + _pkcs8(key)

        with pytest.raises(KeyUnavailable):
            keypolicy.parse_private_key(pem, _PASSPHRASE)

    def test_the_wrong_passphrase_is_not_shown(self, key: RSAPrivateKey) -> None:
        """Neither it nor the right one is in the error."""
        pem = keypolicy.private_pem(key, _PASSPHRASE)

        with pytest.raises(KeyUnavailable) as raised:
            keypolicy.parse_private_key(pem, b"canary-passphrase")

        assert "canary" not in str(raised.value)
        assert _PASSPHRASE.decode() not in str(raised.value)


class TestWriting:
    """What we write, others read."""

    def test_public_pem(self, key: RSAPrivateKey) -> None:
        """SubjectPublicKeyInfo with a final newline, byte for byte as openssl's."""
        expected = openssl("pkey", "-pubout", stdin=_pkcs8(key))

        assert expected == keypolicy.public_pem(key.public_key())

    def test_private_pem(self, key: RSAPrivateKey) -> None:
        """PKCS#8, byte for byte as openssl's."""
        expected = openssl("pkcs8", "-topk8", "-nocrypt", stdin=_pkcs8(key))

        assert expected == keypolicy.private_pem(key)

    def test_an_encrypted_private_pem_opens_in_openssl(
        self, key: RSAPrivateKey
    ) -> None:
        """With its passphrase, to the same key."""
        pem = keypolicy.private_pem(key, _PASSPHRASE)

        opened = openssl("pkey", "-passin", f"pass:{_PASSPHRASE.decode()}", stdin=pem)

        assert _pkcs8(key) == opened


class TestKeyId:
    """The RFC 7638 thumbprint."""

    def test_the_example_of_the_rfc(self) -> None:
        """Its key has the thumbprint that stands there."""
        n, e = (
            int.from_bytes(base64.urlsafe_b64decode(_RFC7638[name] + "=="), "big")
            for name in ("n", "e")
        )

        kid = keypolicy.key_id(RSAPublicNumbers(e, n).public_key())

        assert _RFC7638["thumbprint"] == kid

    def test_is_of_the_key_not_its_file(self, key: RSAPrivateKey) -> None:
        """Both halves, read back from any form, have one id of 43 characters."""
        expected = keypolicy.key_id(key.public_key())

        crlf = _spki(key.public_key()).replace(b"\n", b"\r\n")

        assert expected == keypolicy.key_id(keypolicy.parse_public_key(crlf))
        assert 43 == len(expected)
        assert expected != keypolicy.key_id(_modulus_of(3072))
