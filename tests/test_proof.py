"""otpseal.proof: commit proofs, against openssl and against mistakes."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st
from openssl_cli import OAEP_SHA256, openssl, pss_sha256

from otpseal import keypolicy, padding, proof
from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.errors import ProofRefused, UnsealFailed

_COMMIT = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
_SHA256_COMMIT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(scope="module")
def authority_keys() -> RsaKeys:
    """The smallest authority key that carries a proof by a 4096-bit key."""
    return RsaKeys(generate_private_key(4624))


def _made_up(bits: int) -> RSAPublicKey:
    """Return a public key of that size; nobody knows its private half."""
    return RSAPublicNumbers(65537, 2**bits - 1).public_key()


def _seal(signature: bytes, key: RSAPublicKey) -> str:
    return base64.b64encode(padding.oaep_encrypt(key, signature)).decode("ascii")


@pytest.mark.parametrize("commit", [_COMMIT, _SHA256_COMMIT])
def test_what_is_made_verifies(
    service_keys: RsaKeys, authority_keys: RsaKeys, commit: str
) -> None:
    """For git's both formats of hashes."""
    made = proof.create(
        commit, signer=service_keys, authority_key=authority_keys.public_key
    )

    proof.verify(
        made,
        commit,
        decrypt=authority_keys.oaep_decrypt,
        signer_key=service_keys.public_key,
    )


def test_is_one_line_of_base64(service_keys: RsaKeys) -> None:
    """1368 characters for the 8192-bit key in use, as CONTRACT.md says."""
    made = proof.create(_COMMIT, signer=service_keys, authority_key=_made_up(8192))

    assert 1368 == len(made)
    assert 1024 == len(base64.b64decode(made, validate=True))


class TestOpenssl:
    """The command line of openssl makes and checks the same proofs."""

    def test_openssl_checks_ours(
        self, service_keys: RsaKeys, authority_keys: RsaKeys, tmp_path: Path
    ) -> None:
        """Base64, then OAEP, then a PSS signature with a salt of 478 bytes."""
        private, public = tmp_path / "authority.pem", tmp_path / "service.pem"
        private.write_bytes(keypolicy.private_pem(authority_keys._private_key))
        public.write_bytes(keypolicy.public_pem(service_keys.public_key))
        signature = tmp_path / "signature"

        made = proof.create(
            _COMMIT, signer=service_keys, authority_key=authority_keys.public_key
        )

        sealed = openssl("base64", "-d", "-A", stdin=made.encode("ascii"))
        signature.write_bytes(
            openssl(
                "pkeyutl", "-decrypt", "-inkey", private, *OAEP_SHA256, stdin=sealed
            )
        )
        told = openssl(
            *("dgst", "-verify", public, "-signature", signature, *pss_sha256(478)),
            stdin=_COMMIT.encode("ascii"),
        )
        assert b"Verified OK\n" == told

    @pytest.mark.parametrize("salt", [478, "max"])
    def test_we_check_openssls(
        self,
        service_keys: RsaKeys,
        authority_keys: RsaKeys,
        tmp_path: Path,
        salt: int | str,
    ) -> None:
        """A proof that was made without any of our code, in openssl's lines."""
        private, public = tmp_path / "service.pem", tmp_path / "authority.pem"
        private.write_bytes(keypolicy.private_pem(service_keys._private_key))
        public.write_bytes(keypolicy.public_pem(authority_keys.public_key))

        signature = openssl(
            *("dgst", "-sign", private, *pss_sha256(salt)),
            stdin=_COMMIT.encode("ascii"),
        )
        sealed = openssl(
            *("pkeyutl", "-encrypt", "-pubin", "-inkey", public, *OAEP_SHA256),
            stdin=signature,
        )
        made = openssl("base64", stdin=sealed).decode("ascii")

        proof.verify(
            made,
            _COMMIT,
            decrypt=authority_keys.oaep_decrypt,
            signer_key=service_keys.public_key,
        )


class TestCapacity:
    """A signature by a 4096-bit key needs an authority key of 4624 bits."""

    @pytest.mark.parametrize("bits", [3072, 4096, 4608, 4616])
    def test_too_small(self, service_keys: RsaKeys, bits: int) -> None:
        """Refused, with the size there is and the size that is needed."""
        with pytest.raises(ProofRefused, match=f"{bits} bits.*at least 4624"):
            proof.create(_COMMIT, signer=service_keys, authority_key=_made_up(bits))

    @pytest.mark.parametrize("bits", [4624, 4632, 8192])
    def test_large_enough(self, service_keys: RsaKeys, bits: int) -> None:
        """From 4624 bits on it fits."""
        made = proof.create(_COMMIT, signer=service_keys, authority_key=_made_up(bits))

        assert bits // 8 == len(base64.b64decode(made))

    def test_is_checked_before_signing(self, service_keys: RsaKeys) -> None:
        """What cannot be sent is not signed."""

        class Signer:
            public_key = service_keys.public_key

            def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
                raise AssertionError

        with pytest.raises(ProofRefused, match="4624"):
            proof.create(_COMMIT, signer=Signer(), authority_key=_made_up(4096))

    @pytest.mark.parametrize(
        ("signer_bits", "needed"), [(3072, 3600), (4096, 4624), (8192, 8720)]
    )
    def test_is_computed_from_the_signer(self, signer_bits: int, needed: int) -> None:
        """Not a constant: 66 bytes more than the signature, for every signer."""
        proof.check_capacity(_made_up(needed), signer_bits=signer_bits)
        with pytest.raises(ProofRefused, match=f"at least {needed}"):
            proof.check_capacity(_made_up(needed - 8), signer_bits=signer_bits)


_BAD_COMMITS = {
    "empty": "",
    "HEAD": "HEAD",
    "short": _COMMIT[:7],
    "39": _COMMIT[:39],
    "41": _COMMIT + "0",
    "63": _SHA256_COMMIT[:63],
    "65": _SHA256_COMMIT + "0",
    "upper case": _COMMIT.upper(),
    "newline": _COMMIT + "\n",
    "39 and newline": _COMMIT[:39] + "\n",
    "blank before": " " + _COMMIT,
    "no hex": "g" * 40,
    "full-width": "\uff10" * 40,
    "Arabic": "\u0660" * 40,
    "lone surrogate": "\ud800" * 40,
    "NUL": _COMMIT[:39] + "\0",
    "two": f"{_COMMIT} {_COMMIT}",
    "option": "--output=/etc/passwd",
}


@pytest.mark.parametrize("commit", _BAD_COMMITS.values(), ids=_BAD_COMMITS)
def test_only_full_hashes_are_signed(service_keys: RsaKeys, commit: str) -> None:
    """40 or 64 lower-case hex digits; the refusal does not repeat the input."""
    with pytest.raises(ProofRefused, match="40 or 64 lower-case") as raised:
        proof.create(commit, signer=service_keys, authority_key=_made_up(8192))

    assert not commit or commit == "HEAD" or commit not in str(raised.value)
    with pytest.raises(ProofRefused, match="40 or 64 lower-case"):
        proof.verify(
            "", commit, decrypt=lambda sealed: sealed, signer_key=_made_up(4096)
        )


@given(commit=st.text(alphabet="0123456789abcdef", min_size=38, max_size=66))
def test_only_two_lengths_are_hashes(commit: str) -> None:
    """Of all strings of lower-case hex digits."""
    try:
        found = proof._message(commit)
    except ProofRefused:
        found = None

    assert (commit.encode() if len(commit) in (40, 64) else None) == found


class TestRefused:
    """Everything but that proof of that commit by that key."""

    @pytest.fixture(scope="class")
    @staticmethod
    def made(service_keys: RsaKeys, authority_keys: RsaKeys) -> str:
        """A sound proof."""
        return proof.create(
            _COMMIT, signer=service_keys, authority_key=authority_keys.public_key
        )

    def test_another_commit(
        self, service_keys: RsaKeys, authority_keys: RsaKeys, made: str
    ) -> None:
        """A proof cannot be carried over to the next commit."""
        other = _COMMIT[:-1] + "a"

        with pytest.raises(ProofRefused, match="not by this public key over this"):
            proof.verify(
                made,
                other,
                decrypt=authority_keys.oaep_decrypt,
                signer_key=service_keys.public_key,
            )

    def test_another_signer(
        self, authority_keys: RsaKeys, other_keys: RsaKeys, made: str
    ) -> None:
        """Nor taken for somebody else's."""
        with pytest.raises(ProofRefused, match="not by this public key over this"):
            proof.verify(
                made,
                _COMMIT,
                decrypt=authority_keys.oaep_decrypt,
                signer_key=other_keys.public_key,
            )

    def test_another_authority(
        self, service_keys: RsaKeys, other_keys: RsaKeys, made: str
    ) -> None:
        """Only the authority that it is for opens it."""
        with pytest.raises(ProofRefused, match="does not open with this authority"):
            proof.verify(
                made,
                _COMMIT,
                decrypt=other_keys.oaep_decrypt,
                signer_key=service_keys.public_key,
            )

    @pytest.mark.parametrize("salt_length", [0, 32, 477])
    def test_another_salt_length(
        self, service_keys: RsaKeys, authority_keys: RsaKeys, salt_length: int
    ) -> None:
        """Exactly the longest salt, though `PSS.MAX_LENGTH` would let any pass."""
        signature = service_keys.pss_sign(_COMMIT.encode(), salt_length=salt_length)

        with pytest.raises(ProofRefused, match="not by this public key over this"):
            proof.verify(
                _seal(signature, authority_keys.public_key),
                _COMMIT,
                decrypt=authority_keys.oaep_decrypt,
                signer_key=service_keys.public_key,
            )

    @pytest.mark.parametrize(
        "content", [b"", b"x", bytes(512), bytes(511), b"\xff" * 512]
    )
    def test_no_signature_inside(
        self, service_keys: RsaKeys, authority_keys: RsaKeys, content: bytes
    ) -> None:
        """Anyone can seal anything to the authority; it is refused as a proof."""
        with pytest.raises(ProofRefused, match="not by this public key over this"):
            proof.verify(
                _seal(content, authority_keys.public_key),
                _COMMIT,
                decrypt=authority_keys.oaep_decrypt,
                signer_key=service_keys.public_key,
            )

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda made: "", "does not open"),
            (lambda made: made[:-4], "does not open"),
            (lambda made: made[:8] + "-_" + made[10:], "not standard base64"),
            (lambda made: "\ud800" + made, "not standard base64"),
            (lambda made: "\u00a0" + made, "not standard base64"),
            (lambda made: made + "=", "not standard base64"),
            (lambda made: made * 100, "not standard base64"),
        ],
        ids=[
            *("empty", "cut", "url-safe", "surrogate", "no-break space", "padding"),
            "enormous",
        ],
    )
    def test_damaged_text(
        self,
        service_keys: RsaKeys,
        authority_keys: RsaKeys,
        made: str,
        change: Callable[[str], str],
        told: str,
    ) -> None:
        """What is no base64, or not of the authority's length."""
        with pytest.raises(ProofRefused, match=told):
            proof.verify(
                change(made),
                _COMMIT,
                decrypt=authority_keys.oaep_decrypt,
                signer_key=service_keys.public_key,
            )

    @pytest.mark.parametrize(
        "change",
        [
            lambda made: made + "\n",
            lambda made: f" \r\n{made}\r\n",
            lambda made: "\n".join(made[n : n + 64] for n in range(0, len(made), 64)),
        ],
        ids=["newline", "around", "lines"],
    )
    def test_but_not_for_white_space(
        self,
        service_keys: RsaKeys,
        authority_keys: RsaKeys,
        made: str,
        change: Callable[[str], str],
    ) -> None:
        """A proof that was pasted into lines is the same proof."""
        proof.verify(
            change(made),
            _COMMIT,
            decrypt=authority_keys.oaep_decrypt,
            signer_key=service_keys.public_key,
        )

    @given(text=st.text())
    def test_any_text(self, text: str) -> None:
        """The parser is total: nothing but ProofRefused comes out."""

        def decrypt(_: bytes) -> bytes:
            raise UnsealFailed

        with pytest.raises(ProofRefused):
            proof.verify(text, _COMMIT, decrypt=decrypt, signer_key=_made_up(4096))
