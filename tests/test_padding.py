"""otpseal.padding against vectors that others published, and against openssl.

The vectors come with the PyPI package cryptography-vectors. Left out are the twenty
`oaep-custom` files whose MGF1 runs over another hash than OAEP itself: otpseal has
no such form.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicKey,
    RSAPublicNumbers,
)
from openssl_cli import OAEP_SHA256, openssl, pss_sha256

from otpseal import keypolicy, padding
from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.errors import ProofRefused, UnsealFailed

_VECTORS = files("cryptography_vectors") / "asymmetric" / "RSA"
_HASHES = {
    "SHA1": hashes.SHA1(),
    "SHA224": hashes.SHA224(),
    "SHA256": hashes.SHA256(),
    "SHA384": hashes.SHA384(),
    "SHA512": hashes.SHA512(),
}
_HEX_LINE = re.compile(r"[0-9a-fA-F\s]+")


def _labelled(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield (label, value) of RSA Laboratories' format: `# Label:`, then hex."""
    label, digits = "", ""
    for line in (_VECTORS / name).read_text(encoding="latin-1").splitlines():
        if line.startswith("#"):
            if digits:
                yield label, _octets(digits)
            label, digits = line.strip("# :\t").lower(), ""
        elif label and _HEX_LINE.fullmatch(line):
            digits += "".join(line.split())
    if digits:
        yield label, _octets(digits)


def _octets(digits: str) -> bytes:
    return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))


def _private_key(parts: dict[str, bytes]) -> RSAPrivateKey:
    number = {label: int.from_bytes(value, "big") for label, value in parts.items()}
    public = RSAPublicNumbers(number["public exponent"], number["modulus"])
    return RSAPrivateNumbers(
        p=number["prime 1"],
        q=number["prime 2"],
        d=number["exponent"],
        dmp1=number["prime exponent 1"],
        dmq1=number["prime exponent 2"],
        iqmp=number["coefficient"],
        public_numbers=public,
    ).private_key()


def _rsalabs(name: str, last: str) -> Iterator[tuple[RSAPrivateKey, dict[str, bytes]]]:
    """Yield (key, parts) of each example; `last` is the label that completes one."""
    parts: dict[str, bytes] = {}
    key = None
    for label, value in _labelled(name):
        parts[label] = value
        if label == "coefficient":
            key = _private_key(parts)
        elif label == last:
            assert key is not None
            yield key, parts


def _fips(name: str) -> Iterator[tuple[RSAPublicKey, dict[str, str]]]:
    """Yield (key, fields) of each signature in NIST's format `Name = value`."""
    fields: dict[str, str] = {}
    # A Result follows its S; where the file has none, the S is the end.
    text = (_VECTORS / "FIPS_186-2" / name).read_text(encoding="ascii")
    last = "Result" if "\nResult = " in text else "S"
    for line in text.splitlines():
        field, equals, value = line.strip().partition(" = ")
        if line.startswith(("#", "[")) or not equals:
            continue
        fields[field] = value
        if field == last:
            numbers = RSAPublicNumbers(int(fields["e"], 16), int(fields["n"], 16))
            yield numbers.public_key(), dict(fields)


def _changed(octets: bytes) -> bytes:
    return octets[:-1] + bytes([octets[-1] ^ 1])


class TestPublishedOaep:
    """OAEP against RSA Laboratories', pyca's and BoringSSL's vectors."""

    @pytest.mark.parametrize(
        ("name", "algorithm"),
        [
            ("pkcs-1v2-1d2-vec/oaep-vect.txt", "SHA1"),
            ("oaep-custom/oaep-sha224-sha224.txt", "SHA224"),
            ("oaep-custom/oaep-sha256-sha256.txt", "SHA256"),
            ("oaep-custom/oaep-sha384-sha384.txt", "SHA384"),
            ("oaep-custom/oaep-sha512-sha512.txt", "SHA512"),
        ],
    )
    def test_opens_published_ciphertexts(self, name: str, algorithm: str) -> None:
        """Each of the 60 ciphertexts opens to its message, and none if changed."""
        opened = 0

        for key, parts in _rsalabs(name, last="encryption"):
            ciphertext = parts["encryption"]
            decrypted = padding.oaep_decrypt(
                key, ciphertext, algorithm=_HASHES[algorithm]
            )
            with pytest.raises(UnsealFailed):
                padding.oaep_decrypt(
                    key, _changed(ciphertext), algorithm=_HASHES[algorithm]
                )
            assert parts["message"] == decrypted
            opened += 1

        assert 60 == opened

    def test_opens_the_published_ciphertext_with_a_label(self) -> None:
        """BoringSSL's vector opens under its label and under no other."""
        text = (_VECTORS / "oaep-label.txt").read_text(encoding="ascii")
        field = dict(line.split(" = ") for line in text.splitlines() if " = " in line)
        key = serialization.load_der_private_key(bytes.fromhex(field["KEY"]), None)
        assert isinstance(key, RSAPrivateKey)
        ciphertext, label = (
            bytes.fromhex(field[name]) for name in ("Input", "OAEPLabel")
        )

        opened = padding.oaep_decrypt(
            key, ciphertext, label=label, algorithm=hashes.SHA512()
        )

        assert b"Hello World" == opened
        for other in (None, b"", _changed(label)):
            with pytest.raises(UnsealFailed):
                padding.oaep_decrypt(
                    key, ciphertext, label=other, algorithm=hashes.SHA512()
                )

    def test_seals_what_the_published_keys_open(self) -> None:
        """Under every key of the SHA-256 file, sealing and opening are inverse."""
        tried = 0

        for key, parts in _rsalabs(
            "oaep-custom/oaep-sha256-sha256.txt", last="encryption"
        ):
            sealed = padding.oaep_encrypt(key.public_key(), parts["message"])
            assert parts["message"] == padding.oaep_decrypt(key, sealed)
            tried += 1

        assert 60 == tried


class TestPublishedPss:
    """PSS against RSA Laboratories' and NIST's vectors."""

    def test_verifies_the_signatures_of_rsa_laboratories(self) -> None:
        """Each of the 60 signatures (SHA-1, salt 20) verifies, and none if changed."""
        verified = 0

        for key, parts in _rsalabs("pkcs-1v2-1d2-vec/pss-vect.txt", last="signature"):
            public, message = key.public_key(), parts["message to be signed"]
            padding.pss_verify(
                public,
                parts["signature"],
                message,
                salt_length=len(parts["salt"]),
                algorithm=hashes.SHA1(),
            )
            for signature, said, salt_length in (
                (_changed(parts["signature"]), message, 20),
                (parts["signature"], _changed(message), 20),
                (parts["signature"], message, 19),
                (parts["signature"], message, 21),
            ):
                with pytest.raises(ProofRefused):
                    padding.pss_verify(
                        public,
                        signature,
                        said,
                        salt_length=salt_length,
                        algorithm=hashes.SHA1(),
                    )
            verified += 1

        assert 60 == verified

    def test_verifies_the_example_with_intermediate_values(self) -> None:
        """The one signature that RSA Laboratories worked out in full verifies."""
        ((key, parts),) = _rsalabs(
            "pkcs-1v2-1d2-vec/pss-int.txt", last="signature, the rsa decryption of em"
        )

        padding.pss_verify(
            key.public_key(),
            parts["signature, the rsa decryption of em"],
            parts["message to be signed"],
            salt_length=20,
            algorithm=hashes.SHA1(),
        )

    @pytest.mark.parametrize(
        ("name", "salt_length"),
        [
            ("SigGenPSS_186-2.txt", 20),
            ("SigGenPSS_186-2.rsp", 20),
            ("SigGenPSS_186-3.rsp", 0),
        ],
    )
    def test_verifies_the_signatures_of_nist(self, name: str, salt_length: int) -> None:
        """All 250 signatures verify (1024 to 4096 bits, SHA-1 to SHA-512)."""
        verified = 0

        for key, fields in _fips(name):
            padding.pss_verify(
                key,
                bytes.fromhex(fields["S"]),
                bytes.fromhex(fields["Msg"]),
                salt_length=salt_length,
                algorithm=_HASHES[fields["SHAAlg"]],
            )
            verified += 1

        assert 250 == verified

    def test_tells_good_from_bad_as_nist_does(self) -> None:
        """Of 450 signatures exactly the 75 marked P verify.

        In the others message, exponent, signature or encoding are wrong.
        """
        told = {"P": 0, "F": 0}

        for key, fields in _fips("SigVerPSS_186-3.rsp"):
            expected = fields["Result"][0]
            try:
                padding.pss_verify(
                    key,
                    bytes.fromhex(fields["S"]),
                    bytes.fromhex(fields["Msg"]),
                    salt_length=len(fields["SaltVal"]) // 2,
                    algorithm=_HASHES[fields["SHAAlg"]],
                )
                found = "P"
            except ProofRefused:
                found = "F"
            assert expected == found, fields["Result"]
            told[found] += 1

        assert {"P": 75, "F": 375} == told


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    """A 2048-bit key: the paddings do not ask for our policy's size."""
    return generate_private_key(2048)


@pytest.fixture
def private(key: RSAPrivateKey, tmp_path: Path) -> Path:
    """Its private half in a file."""
    path = tmp_path / "private.pem"
    path.write_bytes(keypolicy.private_pem(key))
    return path


@pytest.fixture
def public(key: RSAPrivateKey, tmp_path: Path) -> Path:
    """Its public half in a file."""
    path = tmp_path / "public.pem"
    path.write_bytes(keypolicy.public_pem(key.public_key()))
    return path


class TestOpenssl:
    """OAEP and PSS against the openssl command line, in both directions."""

    MESSAGE = b"00112233445566778899aabbccddeeff" * 2

    @pytest.mark.parametrize("label", [None, b"otpseal storage key v1"])
    def test_opens_what_openssl_seals(
        self, key: RSAPrivateKey, public: Path, label: bytes | None
    ) -> None:
        """OAEP-SHA-256 by openssl, with and without a label, opens here."""
        options = ("-pkeyopt", f"rsa_oaep_label:{label.hex()}") if label else ()

        sealed = openssl(
            *("pkeyutl", "-encrypt", "-pubin", "-inkey", public, *OAEP_SHA256),
            *options,
            stdin=self.MESSAGE,
        )

        assert self.MESSAGE == padding.oaep_decrypt(key, sealed, label=label)
        with pytest.raises(UnsealFailed):
            padding.oaep_decrypt(key, sealed, label=b"another")

    @pytest.mark.parametrize("label", [None, b"otpseal storage key v1"])
    def test_openssl_opens_what_we_seal(
        self, key: RSAPrivateKey, private: Path, label: bytes | None
    ) -> None:
        """OAEP-SHA-256 by us, with and without a label, opens in openssl."""
        options = ("-pkeyopt", f"rsa_oaep_label:{label.hex()}") if label else ()

        sealed = padding.oaep_encrypt(key.public_key(), self.MESSAGE, label=label)

        opened = openssl(
            *("pkeyutl", "-decrypt", "-inkey", private, *OAEP_SHA256),
            *options,
            stdin=sealed,
        )
        assert self.MESSAGE == opened

    @pytest.mark.parametrize("salt_length", [0, 32, 222])
    def test_verifies_what_openssl_signs(
        self, key: RSAPrivateKey, private: Path, salt_length: int
    ) -> None:
        """PSS-SHA-256 by openssl verifies at exactly the salt length it was made."""
        signature = openssl(
            *("dgst", "-sign", private, *pss_sha256(salt_length)), stdin=self.MESSAGE
        )

        padding.pss_verify(
            key.public_key(), signature, self.MESSAGE, salt_length=salt_length
        )
        with pytest.raises(ProofRefused):
            padding.pss_verify(
                key.public_key(), signature, self.MESSAGE, salt_length=salt_length + 1
            )

    @pytest.mark.parametrize("salt_length", [0, 32, 222])
    def test_openssl_verifies_what_we_sign(
        self, key: RSAPrivateKey, public: Path, tmp_path: Path, salt_length: int
    ) -> None:
        """PSS-SHA-256 by us verifies in openssl at exactly that salt length."""
        signature = tmp_path / "signature"

        signature.write_bytes(
            padding.pss_sign(key, self.MESSAGE, salt_length=salt_length)
        )

        told = openssl(
            *("dgst", "-verify", public, "-signature", signature),
            *pss_sha256(salt_length),
            stdin=self.MESSAGE,
        )
        assert b"Verified OK\n" == told


class TestSizes:
    """What fits, to the byte."""

    def test_what_a_4096_bit_key_carries(self, service_keys: RsaKeys) -> None:
        """446 bytes fit and come back; one more does not fit (RFC 8017, 7.1.1)."""
        assert 446 == padding.oaep_capacity(4096)

        sealed = padding.oaep_encrypt(service_keys.public_key, b"m" * 446)

        assert b"m" * 446 == service_keys.oaep_decrypt(sealed)
        assert 512 == len(sealed)
        with pytest.raises(ValueError, match="Encryption failed"):
            padding.oaep_encrypt(service_keys.public_key, b"m" * 447)

    def test_what_key_a_signature_needs(self) -> None:
        """4624 bits carry the 512 bytes of a signature; 4616 do not."""
        assert 4624 == padding.oaep_key_bits(512)
        assert 512 == padding.oaep_capacity(4624)
        assert 511 == padding.oaep_capacity(4616)

    def test_the_longest_salt(self, service_keys: RsaKeys) -> None:
        """478 bytes of salt fit into 4096 bits and one more does not."""
        assert 478 == padding.pss_max_salt_length(4096)

        signature = service_keys.pss_sign(b"message", salt_length=478)

        padding.pss_verify(
            service_keys.public_key, signature, b"message", salt_length=478
        )
        with pytest.raises(ValueError, match="Digest or salt"):
            service_keys.pss_sign(b"message", salt_length=479)

    @pytest.mark.parametrize(
        ("bits", "longest"), [(1024, 94), (1025, 94), (1030, 95), (2048, 222)]
    )
    def test_the_longest_salt_counts_whole_bytes(self, bits: int, longest: int) -> None:
        """The room is emLen = ceil((bits - 1) / 8) of RFC 8017 section 8.1."""
        assert longest == padding.pss_max_salt_length(bits)

    @pytest.mark.parametrize("length", [0, 1, 511, 513, 1024])
    def test_a_ciphertext_of_another_length_does_not_open(
        self, service_keys: RsaKeys, length: int
    ) -> None:
        """The one error of every other failure, not a ValueError."""
        with pytest.raises(UnsealFailed):
            service_keys.oaep_decrypt(b"\1" * length)

    @pytest.mark.parametrize("length", [0, 1, 511, 513])
    def test_a_signature_of_another_length_does_not_verify(
        self, service_keys: RsaKeys, length: int
    ) -> None:
        """The one error of every other failure, not a ValueError."""
        with pytest.raises(ProofRefused):
            padding.pss_verify(
                service_keys.public_key, b"\1" * length, b"message", salt_length=32
            )
