"""Nobody learns by the time how far a forged envelope came."""

import base64
import contextlib
import os
import random
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from joserfc import jwe, jws
from joserfc.jwk import OKPKey, RSAKey
from repetitions import rounds
from test_pq_envelope import PqHeadquarters
from timing import THRESHOLD, Samples, measure
from trust_fixture import Headquarters, encoded

from otpseal import envelope, pq_envelope, seed_claims, signed_envelope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import EnvelopeRefused, UnsealFailed
from otpseal.padding import oaep_encrypt
from otpseal.pq_keys import PqSigner
from otpseal.public_jwk import thumbprint
from otpseal.signed_envelope import Signer

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]

#: Samples of each way to fail, and inputs that they are drawn from.
EACH = len(rounds(30, full=10_000))
POOL = len(rounds(10, full=200))

Ways = dict[str, list[str]]
Makers = dict[str, Callable[[], str]]

STRANGER = PqSigner(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())


def judge(samples: Samples) -> None:
    """Print the figures; under `make torture`, demand that no two ways differ."""
    worst, which = samples.worst()
    print(f"|t| {worst:.2f}: {which}; of the fastest 90 %: {samples.worst(0.9)}")
    # A few samples say nothing; that every way ended as it should is seen all the same.
    if os.environ.get("OTPSEAL_TORTURE"):
        assert worst < THRESHOLD, which


def pooled(makers: Makers) -> Ways:
    """Make fresh inputs of each way to fail."""
    return {name: [make() for _ in range(POOL)] for name, make in makers.items()}


def no_ciphertext(keys: RsaKeys) -> bytes:
    """Return what fails at the padding.

    It is less than the modulus: what is not fails sooner, and everybody can see that.
    """
    modulus = keys.public_key.public_numbers().n
    return random.randrange(1, modulus).to_bytes((modulus.bit_length() + 7) // 8, "big")


def classic_ways(keys: RsaKeys) -> Makers:
    """Return what makes sealed seeds that fail at the padding, and after it."""

    def sealed(plaintext: bytes) -> str:
        return base64.b64encode(oaep_encrypt(keys.public_key, plaintext)).decode()

    return {
        "padding": lambda: base64.b64encode(no_ciphertext(keys)).decode(),
        "no hex": lambda: sealed(b"g" * 64),
        "short": lambda: sealed(b"abcd"),
        "long": lambda: sealed(b"a" * 66),
        "empty": lambda: sealed(b""),
    }


def v1_ways(hq: Headquarters) -> Makers:
    """Return what makes envelopes that fail at each stage before a good signature."""
    stranger = Headquarters(hq.keys, signer=Signer(STRANGER.ed25519))
    recipient = RSAKey.import_key(hq.keys.public_key)
    kid = thumbprint(hq.signer.key.public_key())

    def sealed(inner: bytes) -> str:
        outer = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "cty": "JWT"}
        return jwe.encrypt_compact(
            {**outer, "kid": hq.keys.kid},
            inner,
            recipient,
            algorithms=["RSA-OAEP-256", "A256GCM"],
        )

    def forged(kid: str, typ: str = signed_envelope.TYPE) -> str:
        return jws.serialize_compact(
            {"alg": "Ed25519", "typ": typ, "kid": kid},
            seed_claims.to_json(hq.claims()),
            OKPKey.import_key(STRANGER.ed25519),
            algorithms=["Ed25519"],
        )

    def part(number: int, change: Callable[[], bytes]) -> str:
        parts = hq.seal().split(".")
        parts[number] = encoded(change())
        return ".".join(parts)

    def content_key(length: int) -> bytes:
        return oaep_encrypt(hq.keys.public_key, os.urandom(length))

    # An envelope's length is in plain sight, and so they all have the same one.
    length = len(forged(kid))
    return {
        "padding": lambda: part(1, lambda: no_ciphertext(hq.keys)),
        "short key": lambda: part(1, lambda: content_key(16)),
        "another key": lambda: part(1, lambda: content_key(32)),
        "tag": lambda: part(4, lambda: os.urandom(16)),
        "not signed": lambda: sealed(seed_claims.to_json(hq.claims()).ljust(length)),
        "another type": lambda: sealed(forged(kid, "0" * 16).encode()),
        "a stranger's": stranger.seal,
        "forged": lambda: sealed(forged(kid).encode()),
    }


def pq_ways(hq: PqHeadquarters) -> Makers:
    """Return what makes pq envelopes that fail before a pinned key is looked at.

    How long that then takes depends on the key (ML-DSA expands it), which is public.
    """
    stranger = PqHeadquarters(STRANGER, hq.key)

    def spoilt(place: int) -> str:
        head, kid, content = hq.seal().split(".")
        raw = bytearray(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        raw[place] ^= 1
        return f"{head}.{kid}.{encoded(bytes(raw))}"

    def not_signed() -> str:
        length = len(pq_envelope._joined(hq.fields()))
        return hq.sealed_bytes(seed_claims.to_json(hq.claims()).ljust(length))

    return {
        "KEM": lambda: spoilt(0),
        "tag": lambda: spoilt(-1),
        "not signed": not_signed,
        "a stranger's": stranger.seal,
    }


def opened_classic(keys: RsaKeys) -> Callable[[str], None]:
    """Return what opens a sealed seed and expects it to fail."""

    def act(text: str) -> None:
        with contextlib.suppress(UnsealFailed):
            envelope.open_sealed(text, keys.oaep_decrypt)
            raise AssertionError("it opened")

    return act


def opened_v1(hq: Headquarters) -> Callable[[str], None]:
    """Return what opens an envelope v1 and expects it to fail."""
    pins = hq.pins

    def act(text: str) -> None:
        with contextlib.suppress(EnvelopeRefused):
            hq.open(text, pins)
            raise AssertionError("it opened")

    return act


def opened_pq(hq: PqHeadquarters) -> Callable[[str], None]:
    """Return what opens an envelope pq and expects it to fail."""
    pins = hq.pins

    def act(text: str) -> None:
        with contextlib.suppress(EnvelopeRefused):
            hq.open(text, pins)
            raise AssertionError("it opened")

    return act


def test_sealed_seeds(service_keys: RsaKeys) -> None:
    """The classic form: bad padding, and good padding around what is no seed."""
    ways = pooled(classic_ways(service_keys))

    judge(measure(ways, opened_classic(service_keys), each=EACH))


def test_envelopes_v1(service_keys: RsaKeys) -> None:
    """From a bad padding to a bad signature under a pinned kid."""
    hq = Headquarters(service_keys)

    judge(measure(pooled(v1_ways(hq)), opened_v1(hq), each=EACH))


def test_envelopes_pq() -> None:
    """From a bad encapsulation to signatures by nobody who is pinned."""
    hq = PqHeadquarters()

    judge(measure(pooled(pq_ways(hq)), opened_pq(hq), each=EACH))


def test_a_difference_is_seen(service_keys: RsaKeys) -> None:
    """The judge is no friend: 100 us more on one way are called a difference."""
    hq = Headquarters(service_keys)
    ways = pooled({name: v1_ways(hq)[name] for name in ("padding", "tag")})
    slow = set(ways["tag"])
    act = opened_v1(hq)

    def planted(text: str) -> None:
        act(text)
        began = time.thread_time_ns()
        while text in slow and time.thread_time_ns() - began < 100_000:
            pass

    worst, _ = measure(ways, planted, each=EACH).worst()

    if os.environ.get("OTPSEAL_TORTURE"):
        assert worst > THRESHOLD
