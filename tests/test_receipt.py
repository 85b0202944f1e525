"""Receipts: what verifies, and that nothing else does."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto import jwk, jws  # type: ignore[import-untyped]
from receipt_sample import (
    EVENT,
    KEY,
    NOW,
    SENT,
    SERVICE_NONCE,
    VECTOR,
    base64url,
    made,
    other,
    parts,
    signed,
    unbase64,
    vector,
)

from otpseal import receipt
from otpseal.errors import ReceiptRefused
from otpseal.public_jwk import thumbprint
from otpseal.secret import Secret

PUBLIC = KEY.public_key()
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def refused(text: str, sent: receipt.Delivery = SENT) -> bool:
    """Tell whether a receipt is refused, with the one text of all refusals."""
    with pytest.raises(ReceiptRefused) as caught:
        receipt.verify(text, key=PUBLIC, sent=sent)
    return str(caught.value) == str(ReceiptRefused())


def test_a_receipt_confirms_what_was_sent() -> None:
    """The authority reads the event and the time out of the service's receipt."""
    found = receipt.verify(made(), key=PUBLIC, sent=SENT)

    assert found == receipt.Receipt(thumbprint(PUBLIC), EVENT, int(NOW))
    assert receipt.claimed_envelope(made()) == SENT.digest


def test_the_vector_holds() -> None:
    """Ed25519 has no random part: the checked-in receipt is made to the byte."""
    assert json.loads(VECTOR.read_text()) == vector()


def test_the_vector_holds_without_our_code() -> None:
    """By jwcrypto the same signature and kid, and by hand (RFC 5869) the same MAC."""
    stored = json.loads(VECTOR.read_text())
    raw = bytes.fromhex(stored["public_key"])
    key = jwk.JWK(kty="OKP", crv="Ed25519", x=base64url(raw))
    header, payload = parts(stored["receipt"])

    token = jws.JWS()
    token.allowed_algs = ["Ed25519"]
    token.deserialize(stored["receipt"], key)

    assert key.thumbprint() == header["kid"] == payload["iss"]
    assert stored["mac"] == unbase64(payload["mac"]).hex() == _mac_by_hand(stored).hex()
    assert stored["event"] == payload["event"]


def _mac_by_hand(stored: dict[str, Any]) -> bytes:
    pseudorandom = hmac.digest(bytes(32), bytes.fromhex(stored["seed"]), "sha256")
    subkey = hmac.digest(pseudorandom, b"otpseal receipt v1\x01", "sha256")
    message = b"".join(
        len(part).to_bytes(2, "big") + part
        for part in (
            bytes.fromhex(stored["envelope_sha256"]),
            stored["account"].encode(),
            stored["kid"].encode(),
            bytes.fromhex(stored["nonce"]),
            bytes.fromhex(stored["service_nonce"]),
        )
    )
    return hmac.new(subkey, message, hashlib.sha256).digest()


@pytest.mark.parametrize(
    "sent",
    [
        other(digest=bytes(32)),
        other(account="shop/bert"),
        other(kid="A" * 43),
        other(nonce=bytes(16)),
        other(seed=Secret(bytes(32))),
    ],
)
def test_another_delivery_is_not_confirmed(sent: receipt.Delivery) -> None:
    """Envelope, account, key, nonce and seed: with one of them wrong it is refused."""
    assert refused(made(), sent)
    assert refused(made(sent))


def test_another_key_does_not_sign() -> None:
    """A receipt that a stranger signed is refused, even if he knows the seed."""
    assert refused(made(key=STRANGER))
    header, payload = parts(made())
    assert refused(signed(header, payload, key=STRANGER))


def test_the_signature_alone_is_not_enough() -> None:
    """Who has the receipt key but not the seed confirms nothing."""
    header, payload = parts(made(other(seed=Secret(b"guessed"))))

    assert refused(signed(header, payload))


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "EdDSA"},
        {"typ": "otpseal-seed+jwt"},
        {"kid": "A" * 43},
        {"crit": ["exp"]},
        {"jwk": {"kty": "OKP"}},
        {"b64": False},
    ],
)
def test_the_header_is_exactly_one(change: dict[str, object]) -> None:
    """No other algorithm, type or key, and nothing beside them."""
    header, payload = parts(made())

    assert not_refused(signed(header, payload))
    assert refused(signed({**header, **change}, payload))


def not_refused(text: str) -> bool:
    """Tell by returning that it verifies."""
    return bool(receipt.verify(text, key=PUBLIC, sent=SENT))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("iss", "A" * 43),
        ("iat", -1),
        ("iat", True),
        ("iat", 1.5),
        ("iat", 2**53),
        ("event", "17"),
        ("event", True),
        ("account", "Shop/Anna"),
        ("envelope", base64url(bytes(31))),
        ("mac", base64url(bytes(32))),
        ("mac", 5),
        ("nonce", None),
        ("service_nonce", base64url(bytes(15))),
        ("service_nonce", base64url(bytes(16))),
        ("kid", "short"),
        ("more", 1),
    ],
)
def test_a_wrong_member_is_refused(member: str, value: object) -> None:
    """Every member has its type and its range, and there are no others."""
    header, payload = parts(made())

    assert refused(signed(header, {**payload, member: value}))


@pytest.mark.parametrize("member", sorted(parts(made())[1]))
def test_a_missing_member_is_refused(member: str) -> None:
    """None has a default."""
    header, payload = parts(made())
    del payload[member]

    assert refused(signed(header, payload))


def test_a_member_twice_is_refused() -> None:
    """Two parsers that take different ones would read different receipts."""
    header, payload = parts(made())
    text = json.dumps(payload)
    twice = text[:-1] + ', "event": 17}'

    assert not_refused(signed(header, text.encode()))
    assert refused(signed(header, twice.encode()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(".", "..", 1),
        lambda text: text.rpartition(".")[0],
        lambda text: text.rpartition(".")[0] + ".",
        # The last character of 64 bytes in base64url carries two bits alone.
        lambda text: text[:-1] + chr(ord(text[-1]) + 1),
        lambda text: text + "." + text,
        lambda text: text[: len(text) // 2],
        lambda text: text + "A" * receipt.MAX_CHARS,
        lambda _: "é.ü.\ud800",
        lambda _: "W10.W10." + "A" * 86,
        lambda _: "",
    ],
)
def test_what_is_written_otherwise_is_refused(spoil: Any) -> None:  # noqa: ANN401
    """One receipt has one spelling, and noise is no receipt."""
    spoiled = spoil(made())

    assert spoiled != made()
    assert refused(spoiled)


def test_a_member_has_one_spelling() -> None:
    """Bits that say nothing, padding, and the standard alphabet, though signed."""
    header, payload = parts(made())
    nonce = payload["nonce"]
    assert nonce.endswith("Dw")

    for spelling in (nonce[:-1] + "x", nonce + "==", "+" + nonce[1:], nonce + "\n"):
        assert refused(signed(header, {**payload, "nonce": spelling}))


def test_deep_nesting_is_refused() -> None:
    """A thousand brackets exhaust no stack."""
    assert refused(signed(b"[" * 500, b"[" * 500))


@given(
    account=st.from_regex(r"[a-z0-9]{1,20}(/[a-z0-9]{1,20})?", fullmatch=True),
    seed=st.binary(min_size=1, max_size=64),
    digest=st.binary(min_size=32, max_size=32),
    nonces=st.tuples(*[st.binary(min_size=16, max_size=16)] * 2),
    event=st.integers(0, 2**53 - 1),
)
def test_whatever_is_made_verifies(
    account: str, seed: bytes, digest: bytes, nonces: tuple[bytes, bytes], event: int
) -> None:
    """There and back for any account, seed, envelope and nonces."""
    sent = receipt.Delivery(digest, account, SENT.kid, nonces[0], Secret(seed))

    text = made(sent, event=event, service_nonce=nonces[1])

    assert event == receipt.verify(text, key=PUBLIC, sent=sent).event


@given(text=st.text(max_size=300))
def test_the_parser_is_total(text: str) -> None:
    """Any text is refused by the one error."""
    assert refused(text)


@given(place=st.integers(0, len(made()) - 1), character=st.sampled_from("AQz09-_."))
def test_no_character_can_be_changed(place: int, character: str) -> None:
    """A receipt with one other character is refused."""
    text = made()
    changed = text[:place] + character + text[place + 1 :]

    assert changed == text or refused(changed)


def test_the_seed_is_not_shown() -> None:
    """A delivery prints nothing of its seed, and a receipt carries nothing of it."""
    seed = SENT.seed.reveal()

    assert "seed" not in repr(SENT)
    assert base64url(seed) not in made()
    assert SERVICE_NONCE != SENT.nonce
