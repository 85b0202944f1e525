#!/usr/bin/env python3
"""Write tests/vectors/envelope_v1.json and envelope_pq.json anew, from fixed test keys.

The keys lie beside them in envelope_keys.json and are everybody's: use them for
nothing else. Sealing is randomised, so that each run writes other envelopes of the same
claims. Takes no arguments; run it from the root of the checkout.
"""

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from joserfc import jwe, jws
from joserfc.jwk import OKPKey, RSAKey

from otpseal import base64url, pq_envelope, seed_claims, signed_envelope
from otpseal.keypolicy import key_id
from otpseal.pq_keys import ImportKey, PqSigner
from otpseal.public_jwk import thumbprint
from otpseal.secret import Secret
from otpseal.seed_claims import SeedClaims
from otpseal.totp import OtpType, Parameters

VECTORS = Path("tests/vectors")
ISSUED_AT = 1_800_000_000

Case = dict[str, Any]


def claims(audience: str, number: int, **changed: Any) -> SeedClaims:  # noqa: ANN401
    """Return the claims of a vector; all but the envelope is the same at each run."""
    given: dict[str, Any] = {
        "issuer": "hq",
        "audience": audience,
        "account": "shop/alice",
        "seed": Secret(b"12345678901234567890"),
        "issued_at": ISSUED_AT,
        "expires_at": ISSUED_AT + 3600,
        "jti": base64url.encode(number.to_bytes(16, "big")),
        "sequence": number,
        "nonce": bytes(range(16)),
        **changed,
    }
    return SeedClaims(**given)


def counting(audience: str, number: int) -> SeedClaims:
    """Return claims with everything that is optional, and not ASCII."""
    parameters = Parameters("SHA256", digits=8, type=OtpType.HOTP, window=0)
    return claims(
        audience,
        number,
        seed=Secret(bytes(range(32))),
        parameters=parameters,
        counter=42,
        service_name="Bäckerei",
        label="Zoë",
    )


def ed25519(jwk: Case) -> Ed25519PrivateKey:
    """Return the private key of a JWK."""
    return Ed25519PrivateKey.from_private_bytes(base64url.decode(jwk["d"]))


class SignedMaker:
    """Makes envelopes v1, good ones and others."""

    def __init__(self, keys: dict[str, Any]) -> None:
        self._recipient = RSAKey.import_key(keys["import"])
        self.kid = key_id(self._recipient.public_key)
        self.ed25519 = ed25519(keys["ed25519"])
        self.ps256 = RSAKey.import_key(keys["ps256"]).private_key
        self.stranger = ed25519(keys["stranger"])

    def accepted(self, name: str, key: Any, made: SeedClaims) -> Case:  # noqa: ANN401
        """Return a case that must be taken, with what is in it."""
        signer = signed_envelope.Signer(key)
        envelope = signed_envelope.seal(
            made, signer=signer, recipient=self._recipient.public_key
        )
        return {
            "name": name,
            "envelope": envelope,
            "claims": json.loads(seed_claims.to_json(made)),
        }

    def refused(self, name: str, header: Case, outer: Case) -> Case:
        """Return a case that must not be taken, good but for the headers given."""
        key = OKPKey.import_key(self.ed25519)
        inner: Case = {
            "alg": "Ed25519",
            "typ": signed_envelope.TYPE,
            "kid": thumbprint(self.ed25519.public_key()),
        }
        head = json.dumps(inner | header).encode()
        payload = seed_claims.to_json(claims(self.kid, 1))
        signing_input = f"{base64url.encode(head)}.{base64url.encode(payload)}"
        signature = jws.JWSRegistry.algorithms["Ed25519"].sign(
            signing_input.encode(), key
        )
        signed = f"{signing_input}.{base64url.encode(signature)}"
        return {"name": name, "envelope": self._sealed(signed, outer)}

    def unsigned(self) -> Case:
        """Return claims that whoever has the public key can seal."""
        payload = seed_claims.to_json(claims(self.kid, 1)).decode()
        return {"name": "not signed", "envelope": self._sealed(payload, {})}

    def _sealed(self, inner: str, changed: Case) -> str:
        outer: Case = {
            "alg": "RSA-OAEP-256",
            "enc": "A256GCM",
            "cty": "JWT",
            "kid": self.kid,
        }
        header = {name: value for name, value in (outer | changed).items() if value}
        names = [header["alg"], header["enc"], "DEF"]
        registry = jwe.JWERegistry(algorithms=names, strict_check_header=False)
        return jwe.encrypt_compact(header, inner, self._recipient, registry=registry)


def make_v1(keys: dict[str, Any]) -> Case:
    """Return the vectors of suite v1."""
    maker = SignedMaker(keys)
    good = maker.accepted("tampered", maker.ed25519, claims(maker.kid, 1))
    head, key, iv, content, tag = good["envelope"].split(".")
    spoilt = ("A" if tag[0] != "A" else "B") + tag[1:]
    return {
        "accepted": [
            maker.accepted("Ed25519", maker.ed25519, claims(maker.kid, 1)),
            maker.accepted("PS256", maker.ps256, claims(maker.kid, 2)),
            maker.accepted("every member", maker.ed25519, counting(maker.kid, 3)),
        ],
        "refused": [
            maker.accepted("a stranger's", maker.stranger, claims(maker.kid, 1)),
            maker.unsigned(),
            maker.refused("alg none", {"alg": "none"}, {}),
            maker.refused("alg HS256", {"alg": "HS256"}, {}),
            maker.refused("alg EdDSA", {"alg": "EdDSA"}, {}),
            maker.refused("another typ", {"typ": "JWT"}, {}),
            maker.refused("a jwk", {"jwk": keys["stranger_public"]}, {}),
            maker.refused("a jku", {"jku": "https://attacker.example/jwks"}, {}),
            maker.refused("crit", {"crit": ["exp"], "exp": 1}, {}),
            maker.refused("RSA-OAEP with SHA-1", {}, {"alg": "RSA-OAEP"}),
            maker.refused("A128CBC-HS256", {}, {"enc": "A128CBC-HS256"}),
            maker.refused("zip", {}, {"zip": "DEF"}),
            maker.refused("no cty", {}, {"cty": None}),
            maker.refused("a typ outside", {}, {"typ": "JWT"}),
            {"name": "tag", "envelope": f"{head}.{key}.{iv}.{content}.{spoilt}"},
        ],
    }


def make_pq(keys: dict[str, Any]) -> Case:
    """Return the vectors of suite pq."""
    key = ImportKey(Secret(base64url.decode(keys["pq_import"]["seed"])))
    signer, stranger = (
        PqSigner(
            ed25519(keys[one]),
            MLDSA65PrivateKey.from_seed_bytes(base64url.decode(keys[two]["seed"])),
        )
        for one, two in (("ed25519", "ml_dsa"), ("stranger", "ml_dsa_stranger"))
    )

    def sealed(name: str, signer: PqSigner, made: SeedClaims) -> Case:
        envelope = pq_envelope.seal(made, signer=signer, recipient=key.public_key)
        payload = json.loads(seed_claims.to_json(made))
        return {"name": name, "envelope": envelope, "claims": payload}

    usual = claims(key.kid, 1)
    half = PqSigner(signer.ed25519, stranger.ml_dsa)
    other_half = PqSigner(stranger.ed25519, signer.ml_dsa)
    return {
        "accepted": [
            sealed("the usual", signer, usual),
            sealed("every member", signer, counting(key.kid, 2)),
        ],
        "refused": [
            sealed("a stranger's", stranger, usual),
            sealed("a stranger's ML-DSA", half, usual),
            sealed("a stranger's Ed25519", other_half, usual),
        ],
    }


def write(name: str, content: Case) -> None:
    """Write a file of vectors."""
    text = json.dumps(content, indent=1, ensure_ascii=True)
    (VECTORS / name).write_text(text + "\n")


if __name__ == "__main__":
    given = json.loads((VECTORS / "envelope_keys.json").read_text())
    write("envelope_v1.json", make_v1(given))
    write("envelope_pq.json", make_pq(given))
