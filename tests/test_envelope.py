"""otpseal.envelope: what opens, and that nothing tells why something did not."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openssl_cli import OAEP_SHA256, openssl

from otpseal import envelope, keypolicy, padding
from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.errors import UnsealFailed
from otpseal.secret import Secret

_HEX = "00112233445566778899aabbccddeeff" * 2
_SEED = Secret(bytes.fromhex(_HEX))

# An RSA-4096 operation takes 6 ms, on a busy machine much more.
_unhurried = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _wrap(key: RSAPublicKey, plaintext: bytes) -> str:
    return base64.b64encode(padding.oaep_encrypt(key, plaintext)).decode("ascii")


def _refusal(text: str, decrypt: Callable[[bytes], bytes]) -> str:
    """Return all that an outsider can learn from the refusal of `text`."""
    with pytest.raises(UnsealFailed) as raised:
        envelope.open_sealed(text, decrypt)
    error = raised.value
    # A cause that is not hidden would be printed with it.
    assert error.__suppress_context__ or error.__context__ is None
    return f"{type(error).__name__} {error} {error.args} {error.code}"


@_unhurried
@given(raw=st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens(service_keys: RsaKeys, raw: bytes) -> None:
    """For every seed: one line of 684 characters that opens to the same seed."""
    sealed = envelope.seal(Secret(raw), service_keys.public_key)

    opened = envelope.open_sealed(sealed, service_keys.oaep_decrypt)

    assert raw == opened.reveal()
    assert 684 == len(sealed)
    assert sealed.isascii()
    assert len(sealed.split()) == 1


def test_the_same_seed_is_never_sealed_alike(service_keys: RsaKeys) -> None:
    """OAEP is randomised: two envelopes of one seed cannot be linked."""
    key = service_keys.public_key

    assert envelope.seal(_SEED, key) != envelope.seal(_SEED, key)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_only_32_bytes_are_sealed(service_keys: RsaKeys, length: int) -> None:
    """A seed of another length is the caller's mistake, not an envelope."""
    with pytest.raises(ValueError, match="32 bytes"):
        envelope.seal(Secret(bytes(length)), service_keys.public_key)


def test_opens_what_openssl_sealed(service_keys: RsaKeys, tmp_path: Path) -> None:
    """An authority that is no otpseal, but openssl's command line."""
    public = tmp_path / "public.pem"
    public.write_bytes(keypolicy.public_pem(service_keys.public_key))

    ciphertext = openssl(
        *("pkeyutl", "-encrypt", "-pubin", "-inkey", public, *OAEP_SHA256),
        stdin=_HEX.encode("ascii"),
    )
    wrapped = openssl("base64", stdin=ciphertext).decode("ascii")

    assert wrapped.count("\n") > 1
    assert _SEED == envelope.open_sealed(wrapped, service_keys.oaep_decrypt)


def test_openssl_opens_what_is_sealed(service_keys: RsaKeys, tmp_path: Path) -> None:
    """A service that is no otpseal reads the 64 characters, without a newline."""
    private = tmp_path / "private.pem"
    private.write_bytes(keypolicy.private_pem(service_keys._private_key))

    sealed = envelope.seal(_SEED, service_keys.public_key)

    opened = openssl(
        *("pkeyutl", "-decrypt", "-inkey", private, *OAEP_SHA256),
        stdin=base64.b64decode(sealed),
    )
    assert _HEX.encode("ascii") == opened


@pytest.mark.parametrize(
    "plaintext",
    [
        _HEX.encode("ascii"),
        _HEX.upper().encode("ascii"),
        _HEX.encode("ascii") + b"\n",
        (_HEX[:32] + _HEX[32:].upper()).encode("ascii"),
    ],
    ids=["as issued", "upper case", "one newline", "mixed case"],
)
def test_plaintexts_that_are_read(service_keys: RsaKeys, plaintext: bytes) -> None:
    """Upper case and one trailing newline are read as CONTRACT.md says."""
    sealed = _wrap(service_keys.public_key, plaintext)

    assert _SEED == envelope.open_sealed(sealed, service_keys.oaep_decrypt)


@pytest.mark.parametrize(
    "change",
    [
        lambda sealed: sealed + "\n",
        lambda sealed: sealed + "\r\n",
        lambda sealed: f" \t\r\n{sealed}\r\n \t",
        lambda sealed: "\n".join(sealed[n : n + 64] for n in range(0, 684, 64)),
        lambda sealed: "\r\n".join(sealed[n : n + 76] for n in range(0, 684, 76)),
    ],
    ids=["newline", "CRLF", "around", "lines of 64", "CRLF lines of 76"],
)
def test_white_space_that_is_read(
    service_keys: RsaKeys, change: Callable[[str], str]
) -> None:
    """Line breaks and surrounding white space are no part of an envelope."""
    sealed = change(envelope.seal(_SEED, service_keys.public_key))

    assert _SEED == envelope.open_sealed(sealed, service_keys.oaep_decrypt)


def test_every_failure_looks_alike(service_keys: RsaKeys, other_keys: RsaKeys) -> None:
    """Text, length, key, label, padding, content: one type, one text, no cause."""
    key = service_keys.public_key
    sealed = ""
    while not {"+", "/"} <= set(sealed):  # else the alphabets would not differ
        sealed = envelope.seal(_SEED, key)
    raw = base64.b64decode(sealed)
    labelled = padding.oaep_encrypt(key, _HEX.encode("ascii"), label=b"label")
    smaller = generate_private_key(3072).public_key()
    texts = {
        "empty": "",
        "blank": " \n",
        "not base64": "not base64!",
        "url-safe alphabet": sealed.replace("+", "-").replace("/", "_"),
        "a blank inside": sealed[:100] + " " + sealed[100:],
        "padding missing": sealed.rstrip("="),
        "padding doubled": sealed + "=",
        "padding inside": sealed[:100] + "=" + sealed[101:],
        "a character less": sealed[:-5] + sealed[-4:],
        "full-width letters": sealed.replace(sealed[0], chr(ord(sealed[0]) + 0xFEE0)),
        "lone surrogate": "\ud800" + sealed[1:],
        "lone surrogate alone": "\udfff",
        "no-break space": "\u00a0" + sealed,
        "NUL": sealed[:-1] + "\0",
        "too short": base64.b64encode(raw[:-1]).decode("ascii"),
        "too long": base64.b64encode(raw + b"\0").decode("ascii"),
        "leading zero": base64.b64encode(b"\0" + raw).decode("ascii"),
        "enormous": "A" * 10_000_000,
        "zeros": base64.b64encode(bytes(512)).decode("ascii"),
        "above the modulus": base64.b64encode(b"\xff" * 512).decode("ascii"),
        "a bit flipped": base64.b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode(),
        "other key": envelope.seal(_SEED, other_keys.public_key),
        "smaller key": envelope.seal(_SEED, smaller),
        "label": base64.b64encode(labelled).decode("ascii"),
        "63 digits": _wrap(key, _HEX[:63].encode("ascii")),
        "65 digits": _wrap(key, _HEX.encode("ascii") + b"0"),
        "two newlines": _wrap(key, _HEX.encode("ascii") + b"\n\n"),
        "CRLF": _wrap(key, _HEX.encode("ascii") + b"\r\n"),
        "newline before": _wrap(key, b"\n" + _HEX.encode("ascii")),
        "blank after": _wrap(key, _HEX.encode("ascii") + b" "),
        "newline for a digit": _wrap(key, _HEX[:63].encode("ascii") + b"\n"),
        "no hex": _wrap(key, b"g" * 64),
        "0x": _wrap(key, b"0x" + _HEX[:62].encode("ascii")),
        "blanks inside": _wrap(key, b"00 " * 21 + b"0"),
        "full-width digits": _wrap(key, ("\uff10" * 64).encode("utf-8")),
        "raw seed": _wrap(key, _SEED.reveal()),
        "base32": _wrap(key, base64.b32encode(_SEED.reveal())),
        "nothing": _wrap(key, b""),
        "UTF-8 BOM": _wrap(key, b"\xef\xbb\xbf" + _HEX.encode("ascii")),
    }

    told = {
        name: _refusal(text, service_keys.oaep_decrypt) for name, text in texts.items()
    }

    expected = "UnsealFailed Decryption failed ('Decryption failed',) unseal_failed"
    assert dict.fromkeys(texts, expected) == told


def test_what_is_too_long_costs_no_decryption(service_keys: RsaKeys) -> None:
    """A stranger's megabytes are refused before they are read as base64."""
    sealed = envelope.seal(_SEED, service_keys.public_key)
    padded = sealed + "\n" * (envelope.MAX_SEALED_SEED_CHARS - len(sealed))

    assert _SEED == envelope.open_sealed(padded, service_keys.oaep_decrypt)
    with pytest.raises(UnsealFailed):
        envelope.open_sealed(padded + "\n", service_keys.oaep_decrypt)


@given(text=st.text())
def test_any_text_is_refused_alike(text: str) -> None:
    """The parser is total: whatever the text, no other exception comes out."""

    def decrypt(_: bytes) -> bytes:
        raise UnsealFailed

    assert _refusal(text, decrypt)


@given(plaintext=st.binary(max_size=80))
def test_any_plaintext_is_a_seed_or_refused(plaintext: bytes) -> None:
    """Exactly 64 hex digits and at most one newline make a seed."""
    hex_digits = plaintext.removesuffix(b"\n")
    is_seed = len(hex_digits) == 64 and not hex_digits.strip(b"0123456789abcdefABCDEF")
    try:
        found = envelope.parse_seed_text(plaintext)
    except UnsealFailed:
        found = None

    assert is_seed is (found is not None)


@given(
    digits=st.text(alphabet="0123456789abcdefABCDEF", min_size=62, max_size=66),
    ending=st.sampled_from(["", "\n", "\n\n", "\r\n", " "]),
)
def test_near_misses_are_told_apart(digits: str, ending: str) -> None:
    """Around the right length, only 64 digits with nothing or one newline open."""
    is_seed = len(digits) == 64 and ending in ("", "\n")
    try:
        found = envelope.parse_seed_text((digits + ending).encode("ascii")).reveal()
    except UnsealFailed:
        found = None

    assert (bytes.fromhex(digits) if is_seed else None) == found
