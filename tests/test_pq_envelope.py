"""Envelopes of the suite pq: both signatures, both keys, or nothing."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st
from node_fixture import npm_install, run_node
from trust_fixture import NOW, Pins, encoded

from otpseal import pq_envelope, seed_claims
from otpseal.errors import ClaimsRefused, EnvelopeRefused, KeyRefused
from otpseal.pq_envelope import is_pq, open_envelope, seal
from otpseal.pq_keys import ImportKey, ImportPublicKey, PqSigner
from otpseal.public_jwk import VerifyingKey, thumbprint
from otpseal.secret import Secret
from otpseal.seed_claims import SeedClaims
from otpseal.signers import OpenedEnvelope


def new_signer() -> PqSigner:
    """Return an authority's two keys."""
    return PqSigner(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())


@dataclass
class PqHeadquarters:
    """An authority with both keys, and the service that pinned them."""

    signer: PqSigner = field(default_factory=new_signer)
    key: ImportKey = field(default_factory=lambda: ImportKey(Secret(os.urandom(32))))

    @property
    def pins(self) -> Pins:
        """A book with this authority alone."""
        pins = Pins()
        pins.pin("hq", self.signer.ed25519.public_key())
        pins.pin("hq", self.signer.ml_dsa.public_key())
        return pins

    def claims(self) -> SeedClaims:
        """Return new claims."""
        return SeedClaims(
            issuer="hq",
            audience=self.key.kid,
            account="shop/alice",
            seed=Secret(os.urandom(20)),
            issued_at=NOW,
            expires_at=NOW + 3600,
            jti=encoded(os.urandom(16)),
            sequence=1,
            nonce=os.urandom(16),
        )

    def seal(self, claims: SeedClaims | None = None) -> str:
        """Return an envelope for the service."""
        return seal(
            claims or self.claims(), signer=self.signer, recipient=self.key.public_key
        )

    def open(self, text: str, pins: Pins | None = None) -> OpenedEnvelope:
        """Open an envelope as the service does."""
        return open_envelope(
            text,
            unwrap=lambda kid: self.key if kid == self.key.kid else None,
            pinned=self.pins if pins is None else pins,
        )

    def sealed_as_is(self, fields: list[bytes]) -> str:
        """Seal any fields to the service, as anybody can."""
        return self.sealed_bytes(pq_envelope._joined(fields))

    def sealed_bytes(self, plaintext: bytes) -> str:
        """Seal anything to the service, as anybody can."""
        sealed = pq_envelope._hpke().encrypt(
            plaintext,
            self.key.public_key.hpke,
            info=pq_envelope._info(self.key.kid),
        )
        return f"otpseal-pq1.{self.key.kid}.{encoded(sealed)}"

    def fields(self, payload: bytes | None = None) -> list[bytes]:
        """Return the five fields of a good envelope."""
        payload = seed_claims.to_json(self.claims()) if payload is None else payload
        kids = [kid.encode() for kid in self.signer.kids]
        message = pq_envelope._message(self.key.kid, kids, payload)
        signed = self.signer.ed25519.sign(message), self.signer.ml_dsa.sign(message)
        return [*kids, *signed, payload]


HQ = PqHeadquarters()


@pytest.fixture
def hq() -> PqHeadquarters:
    """An authority; it has no state that a test could change."""
    return HQ


# What is believed.


def test_what_is_sealed_is_opened(hq: PqHeadquarters) -> None:
    """The claims come back, with the authority's name and the text's digest."""
    claims = hq.claims()
    text = hq.seal(claims)

    opened = hq.open(text)

    assert claims == opened.claims
    assert ("hq", "pq", hq.key.kid) == (opened.authority, opened.suite, opened.kid)
    assert hashlib.sha256(text.encode()).digest() == opened.digest
    assert is_pq(text)
    assert not is_pq("eyJhbGciOi.J.J.J.J")


def test_the_kem_is_that_of_the_draft() -> None:
    """Keys made of the draft's seeds are the draft's keys, and open what it sealed."""
    vectors = Path(cryptography_vectors.__file__).parent / "HPKE"
    every = json.loads((vectors / "hpke-pq-test-vectors.json").read_text())
    ours = [vector for vector in every if vector["kem_id"] == 0x647A]

    for vector in ours:
        key = ImportKey(Secret(bytes.fromhex(vector["skRm"])))
        assert vector["pkRm"] == key.public_key.raw.hex()

    assert 2 == len(ours)


def test_a_key_is_its_seed(hq: PqHeadquarters) -> None:
    """32 bytes at rest give the same key again; another seed another key."""
    again = ImportKey(Secret(hq.key.seed.reveal()))
    text = hq.seal()

    opened = open_envelope(text, unwrap={again.kid: again}.get, pinned=hq.pins)

    assert hq.key.kid == again.kid == opened.kid
    assert hq.key.kid != ImportKey(Secret(bytes(32))).kid
    assert "Secret(32 bytes)" in repr(again)


# What is not.


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 127))
def test_no_changed_character_is_believed(at: float, by: int) -> None:
    """One character changed, anywhere: refused."""
    text = HQ.seal()
    place = int(at * len(text))
    other = chr((ord(text[place]) + by) % 128)

    with pytest.raises(EnvelopeRefused):
        HQ.open(text[:place] + other + text[place + 1 :])


@given(st.binary(max_size=300))
def test_what_is_sealed_by_anybody(content: bytes) -> None:
    """The public key alone makes nothing that is believed, whatever is in it."""
    with pytest.raises(EnvelopeRefused):
        HQ.open(HQ.sealed_bytes(content))


@given(st.text(max_size=300) | st.binary(max_size=300).map(encoded))
def test_any_text_is_refused(text: str) -> None:
    """No text does anything but be refused, after the marker and kid neither."""
    for spoilt in (text, f"otpseal-pq1.{text}", f"otpseal-pq1.{HQ.key.kid}.{text}"):
        with pytest.raises(EnvelopeRefused):
            HQ.open(spoilt)


STRANGER = new_signer()


@pytest.mark.parametrize(
    "signer",
    [
        STRANGER,
        replace(HQ.signer, ml_dsa=STRANGER.ml_dsa),
        replace(HQ.signer, ed25519=STRANGER.ed25519),
    ],
    ids=["both", "ML-DSA", "Ed25519"],
)
def test_both_signatures_must_be_good(hq: PqHeadquarters, signer: PqSigner) -> None:
    """A stranger's in place of either: refused, also under the pinned kids."""
    stranger = PqHeadquarters(signer, hq.key)
    with pytest.raises(EnvelopeRefused):
        hq.open(stranger.seal())

    payload = seed_claims.to_json(hq.claims())
    kids = [kid.encode() for kid in hq.signer.kids]
    message = pq_envelope._message(hq.key.kid, kids, payload)
    signed = [signer.ed25519.sign(message), signer.ml_dsa.sign(message)]
    with pytest.raises(EnvelopeRefused):
        hq.open(hq.sealed_as_is([*kids, *signed, payload]))


def test_two_authorities_are_not_one(hq: PqHeadquarters) -> None:
    """Both keys pinned, each for another authority: neither vouches for a half."""
    pins = hq.pins
    pins.pin("branch", hq.signer.ml_dsa.public_key())

    with pytest.raises(EnvelopeRefused):
        hq.open(hq.seal(), pins)


def test_one_pinned_key_is_not_enough(hq: PqHeadquarters) -> None:
    """An authority that is pinned by one of both keys is not pinned for this suite."""
    for key in (hq.signer.ed25519.public_key(), hq.signer.ml_dsa.public_key()):
        pins = Pins()
        pins.pin("hq", key)

        with pytest.raises(EnvelopeRefused):
            hq.open(hq.seal(), pins)


def test_a_key_of_another_kind(hq: PqHeadquarters) -> None:
    """A book that gives an RSA key, or Ed25519 twice: refused."""
    for other in (
        generate_private_key(65537, 2048).public_key(),
        hq.signer.ed25519.public_key(),
    ):
        pins = hq.pins
        pins.keys[hq.signer.kids[1]] = "hq", other

        with pytest.raises(EnvelopeRefused):
            hq.open(hq.seal(), pins)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda fields: fields[:1],
        lambda fields: fields[:4],
        lambda fields: [*fields, b""],
        lambda fields: [fields[1], fields[0], *fields[2:]],
        lambda fields: [*fields[:2], fields[3], fields[2], fields[4]],
        lambda fields: [*fields[:2], b"", fields[3], fields[4]],
        lambda fields: [*fields[:3], b"", fields[4]],
        lambda fields: [*fields[:4], fields[4] + b" "],
        lambda fields: [b"\xff" * 43, *fields[1:]],
    ],
)
def test_fields_are_exact(
    hq: PqHeadquarters, spoil: Callable[[list[bytes]], list[bytes]]
) -> None:
    """Fewer, more, exchanged, empty: refused, though the keys are the authority's."""
    assert "hq" == hq.open(hq.sealed_as_is(hq.fields())).authority

    with pytest.raises(EnvelopeRefused):
        hq.open(hq.sealed_as_is(spoil(hq.fields())))


def test_nothing_is_left_over(hq: PqHeadquarters) -> None:
    """A byte more or less behind the last field, or one that it only speaks of."""
    fields = hq.fields()
    plaintext, head = pq_envelope._joined(fields), pq_envelope._joined(fields[:4])
    longer = (len(fields[4]) + 1).to_bytes(2, "big")

    for spoilt in (plaintext + b"\0", plaintext[:-1], head + longer + fields[4]):
        with pytest.raises(EnvelopeRefused):
            hq.open(hq.sealed_bytes(spoilt))


def test_signed_for_one_service_only(hq: PqHeadquarters) -> None:
    """Who opened an envelope cannot seal its signed part to another service."""
    elsewhere = PqHeadquarters(hq.signer)
    fields = hq.fields()

    with pytest.raises(EnvelopeRefused):
        elsewhere.open(elsewhere.sealed_as_is(fields))


def test_the_context_is_bound(hq: PqHeadquarters) -> None:
    """The same bytes under another `info` do not open."""
    fields = pq_envelope._joined(hq.fields())
    sealed = pq_envelope._hpke().encrypt(fields, hq.key.public_key.hpke, info=b"")

    with pytest.raises(EnvelopeRefused):
        hq.open(f"otpseal-pq1.{hq.key.kid}.{encoded(sealed)}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text + ".",
        lambda text: text.replace("otpseal-pq1", "otpseal-pq2"),
        lambda text: text.upper(),
        lambda text: text.replace("otpseal-pq1.", ""),
        lambda text: text + "A" * 33_000,
    ],
)
def test_other_writings_are_refused(
    hq: PqHeadquarters, spoil: Callable[[str], str]
) -> None:
    """Padding, blanks, another version, too long: one writing."""
    with pytest.raises(EnvelopeRefused):
        hq.open(spoil(hq.seal()))


def test_too_long_costs_no_decryption(hq: PqHeadquarters) -> None:
    """What is refused by its form is never handed to the private key."""

    def never(_kid: str) -> None:
        raise AssertionError("the key was asked for")

    for text in ("A" * 40_000, f"otpseal-pq1.{hq.key.kid}.{'A' * 40_000}"):
        with pytest.raises(EnvelopeRefused):
            open_envelope(text, unwrap=never, pinned=hq.pins)


def test_only_kids_are_looked_up(hq: PqHeadquarters) -> None:
    """A stranger's bytes reach neither the book of keys nor a database under it."""

    class Careful(Pins):
        def find(
            self, *, kid: str | None, algorithm: str, chain: Sequence[bytes]
        ) -> tuple[str, VerifyingKey] | None:
            raise AssertionError("the book was asked")

    for kid in (b"", b"\xff" * 43, b"'; drop table"):
        with pytest.raises(EnvelopeRefused):
            hq.open(hq.sealed_as_is([kid, *hq.fields()[1:]]), Careful())


def test_claims_of_an_authority_are_told_apart(hq: PqHeadquarters) -> None:
    """Good signatures over what are no claims: that authority may know why."""
    with pytest.raises(ClaimsRefused):
        hq.open(hq.sealed_as_is(hq.fields(b"{}")))


def test_every_failure_verifies_twice(
    hq: PqHeadquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far it comes: both kinds of signature are looked at, once each."""
    looked: list[str] = []
    verify = pq_envelope._is_good

    def watched(key: Any, *rest: bytes) -> bool:  # noqa: ANN401 - either key
        looked.append(type(key).__name__)
        return verify(key, *rest)

    monkeypatch.setattr(pq_envelope, "_is_good", watched)
    good = hq.seal()
    kids = [kid.encode() for kid in hq.signer.kids]
    failing = {
        "sealed": good[:-1] + ("A" if good[-1] != "A" else "Q"),
        "short": good[:200],
        "no fields": hq.sealed_bytes(b"x"),
        "nobody's": PqHeadquarters(STRANGER, hq.key).seal(),
        "Ed25519": hq.sealed_as_is([*kids, bytes(64), *hq.fields()[3:]]),
        "ML-DSA": hq.sealed_as_is([*hq.fields()[:3], bytes(3309), hq.fields()[4]]),
    }
    for name, text in failing.items():
        looked.clear()

        with pytest.raises(EnvelopeRefused):
            hq.open(text)

        assert ["Ed25519PublicKey", "MLDSA65PublicKey"] == looked, name


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        HQ.key.public_key.raw[:-1],
        HQ.key.public_key.raw[:1184] + bytes(32),
        HQ.key.public_key.raw[:1184] + b"\1" + bytes(31),
        b"\xff" * 1184 + HQ.key.public_key.raw[1184:],
    ],
    ids=["empty", "short", "zero", "small order", "out of range"],
)
def test_weak_public_keys_are_refused(raw: bytes) -> None:
    """Another length, a point of small order, coefficients of no field element."""
    with pytest.raises(KeyRefused):
        ImportPublicKey(raw)


@pytest.mark.parametrize("length", [0, 31, 33, 64, 96])
def test_a_seed_has_32_bytes(length: int) -> None:
    """Neither the expanded form nor one part of it is a private key."""
    with pytest.raises(KeyRefused):
        ImportKey(Secret(bytes(length)))


def test_kids_are_thumbprints(hq: PqHeadquarters) -> None:
    """RFC 7638 over the members of the key type AKP, spelt out."""

    def hashed(text: str) -> str:
        return encoded(hashlib.sha256(text.encode()).digest())

    public = hq.signer.ml_dsa.public_key()
    pub = encoded(public.public_bytes_raw())
    expected = hashed(f'{{"alg":"ML-DSA-65","kty":"AKP","pub":"{pub}"}}')
    import_pub = encoded(hq.key.public_key.raw)

    assert expected == thumbprint(public)
    assert hq.key.kid == hashed(
        f'{{"alg":"otpseal-pq1","kty":"AKP","pub":"{import_pub}"}}'
    )


# Others make one, and open ours.

NODE = """
import {readFileSync} from "node:fs";
import {createPrivateKey, createPublicKey, createHash, sign, verify} from "node:crypto";
import * as HPKE from "hpke";
import {KEM_MLKEM768_X25519} from "@panva/hpke-noble";
import {ml_dsa65} from "@noble/post-quantum/ml-dsa.js";

const given = JSON.parse(readFileSync(0, "utf8"));
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64url"));
const text = (raw) => Buffer.from(raw).toString("base64url");
const ascii = (words) => new Uint8Array(Buffer.from(words, "ascii"));
const lp16 = (...fields) => new Uint8Array(Buffer.concat(fields.map((field) =>
  Buffer.concat([Buffer.from([field.length >> 8, field.length & 255]), field]))));
const thumbprint = (json) => createHash("sha256").update(json).digest("base64url");
const suite = new HPKE.CipherSuite(
  KEM_MLKEM768_X25519, HPKE.KDF_HKDF_SHA256, HPKE.AEAD_AES_256_GCM);

const ed25519 = createPrivateKey(given.ed25519);
const x = createPublicKey(ed25519).export({format: "jwk"}).x;
const mlDsa = ml_dsa65.keygen(bytes(given.mlDsaSeed));
const kids = [
  thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`),
  thumbprint(`{"alg":"ML-DSA-65","kty":"AKP","pub":"${text(mlDsa.publicKey)}"}`),
].map(ascii);
const kid = thumbprint(`{"alg":"otpseal-pq1","kty":"AKP","pub":"${given.recipient}"}`);
const info = lp16(ascii("otpseal-pq1"), ascii(kid));
const message = (claims) =>
  lp16(ascii("otpseal-pq1 signed seed"), ascii(kid), ...kids, claims);

// One by us.
const claims = ascii(given.claims);
const to = await suite.DeserializePublicKey(bytes(given.recipient));
const plaintext = lp16(...kids, sign(null, message(claims), ed25519),
  ml_dsa65.sign(message(claims), mlDsa.secretKey), claims);
const made = await suite.Seal(to, plaintext, {info});
const sealed = text(Buffer.concat([made.encapsulatedSecret, made.ciphertext]));

// One by otpseal, opened with the key's seed alone.
const [marker, named, content] = given.envelope.split(".");
const raw = bytes(content);
const key = await suite.DeserializePrivateKey(bytes(given.seed));
const pair = {privateKey: key, publicKey: to};
const opened = Buffer.from(
  await suite.Open(pair, raw.slice(0, 1120), raw.slice(1120), {info}));
const fields = [];
for (let at = 0; at < opened.length; ) {
  const end = at + 2 + opened.readUInt16BE(at);
  fields.push(opened.subarray(at + 2, end));
  at = end;
}
const signed = new Uint8Array(message(fields[4]));
console.log(JSON.stringify({
  made: `otpseal-pq1.${kid}.${sealed}`,
  named: marker === "otpseal-pq1" && named === kid,
  ed25519: verify(null, signed, createPublicKey(ed25519), fields[2]),
  mlDsa: ml_dsa65.verify(new Uint8Array(fields[3]), signed, mlDsa.publicKey),
  claims: fields[4].toString("ascii"),
}));
"""


def test_npms_hpke_and_noble_make_and_open_one(
    hq: PqHeadquarters, tmp_path: Path
) -> None:
    """An independent HPKE, ML-KEM and ML-DSA, in another language, both ways."""
    directory = npm_install(
        tmp_path, "hpke@1", "@panva/hpke-noble@1", "@noble/post-quantum@0.7"
    )
    theirs, ours = hq.claims(), hq.claims()
    given = {
        "ed25519": hq.signer.ed25519.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        "mlDsaSeed": encoded(hq.signer.ml_dsa.private_bytes_raw()),
        "recipient": encoded(hq.key.public_key.raw),
        "claims": seed_claims.to_json(theirs).decode(),
        "seed": encoded(hq.key.seed.reveal()),
        "envelope": hq.seal(ours),
    }

    answer = json.loads(run_node(directory, NODE, json.dumps(given)))

    assert theirs == hq.open(answer["made"]).claims
    assert (True, True, True) == tuple(
        answer[name] for name in ("named", "ed25519", "mlDsa")
    )
    assert ours == seed_claims.parse(answer["claims"].encode())
