"""The vectors of envelopes that are published: otpseal and others agree on them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from joserfc.jwk import OKPKey, RSAKey
from jwcrypto import jwe as other_jwe
from jwcrypto import jwk as other_jwk
from jwcrypto import jws as other_jws
from trust_fixture import Pins

from otpseal import base64url, pq_envelope, seed_claims, signed_envelope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import EnvelopeRefused
from otpseal.pq_keys import ImportKey
from otpseal.public_jwk import thumbprint
from otpseal.secret import Secret
from otpseal.signers import OpenedEnvelope

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "tests" / "vectors"


def read(name: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a file of vectors."""
    return json.loads((VECTORS / name).read_text())


KEYS = read("envelope_keys.json")
IMPORT_KEYS = RsaKeys(RSAKey.import_key(KEYS["import"]).private_key)
PQ_KEY = ImportKey(Secret(base64url.decode(KEYS["pq_import"]["seed"])))
V1 = read("envelope_v1.json")
PQ = read("envelope_pq.json")


def pins() -> Pins:
    """Return what a service that pinned the authority hq believes."""
    book = Pins()
    ml_dsa = MLDSA65PrivateKey.from_seed_bytes(
        base64url.decode(KEYS["ml_dsa"]["seed"])
    ).public_key()
    for key in (
        RSAKey.import_key(KEYS["ps256"]).public_key,
        OKPKey.import_key(KEYS["ed25519"]).public_key,
        ml_dsa,
    ):
        book.pin("hq", key)
    return book


def opened(envelope: str) -> OpenedEnvelope:
    """Open an envelope of either suite with the vectors' keys."""
    if pq_envelope.is_pq(envelope):
        return pq_envelope.open_envelope(
            envelope, unwrap={PQ_KEY.kid: PQ_KEY}.get, pinned=pins()
        )
    return signed_envelope.open_envelope(
        envelope, unwrap={IMPORT_KEYS.kid: IMPORT_KEYS.oaep_decrypt}.get, pinned=pins()
    )


def named(cases: list[dict[str, Any]]) -> list[Any]:
    """Give each case its name in the report."""
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", named(V1["accepted"] + PQ["accepted"]))
def test_what_must_be_taken(case: dict[str, Any]) -> None:
    """The claims are those that are written beside it."""
    claims = opened(case["envelope"]).claims

    assert case["claims"] == json.loads(seed_claims.to_json(claims))


@pytest.mark.parametrize("case", named(V1["refused"] + PQ["refused"]))
def test_what_must_not(case: dict[str, Any]) -> None:
    """Each is refused, and none for the reason that the keys do not fit."""
    with pytest.raises(EnvelopeRefused):
        opened(case["envelope"])

    assert case["name"] not in [good["name"] for good in V1["accepted"]]


@pytest.mark.parametrize("case", named(V1["accepted"]))
def test_another_library_reads_them(case: dict[str, Any]) -> None:
    """By jwcrypto: header, decryption, signature and claims."""
    sealed = other_jwe.JWE()
    sealed.deserialize(case["envelope"], other_jwk.JWK(**KEYS["import"]))
    assert {
        "alg": "RSA-OAEP-256",
        "enc": "A256GCM",
        "cty": "JWT",
        "kid": other_jwk.JWK(**KEYS["import"]).thumbprint(),
    } == sealed.jose_header

    signed = other_jws.JWS()
    signed.deserialize(sealed.payload.decode())
    algorithm = signed.jose_header["alg"]
    key = other_jwk.JWK(**KEYS[{"PS256": "ps256", "Ed25519": "ed25519"}[algorithm]])
    signed.verify(key, alg=algorithm)
    assert {
        "alg": algorithm,
        "typ": "otpseal-seed+jwt",
        "kid": key.thumbprint(),
    } == signed.jose_header
    assert case["claims"] == json.loads(signed.payload)


def test_another_library_names_ml_dsa_keys_alike() -> None:
    """The kid of an ML-DSA key is jwcrypto's thumbprint of it too."""
    key = MLDSA65PrivateKey.from_seed_bytes(base64url.decode(KEYS["ml_dsa"]["seed"]))
    public = key.public_key()
    pub = base64url.encode(public.public_bytes_raw())

    assert (
        thumbprint(public)
        == other_jwk.JWK(kty="AKP", alg="ML-DSA-65", pub=pub).thumbprint()
    )


def test_the_script_makes_them(tmp_path: Path) -> None:
    """The same names and claims at each run; the envelopes are new."""
    directory = tmp_path / "tests" / "vectors"
    directory.mkdir(parents=True)
    shutil.copy(VECTORS / "envelope_keys.json", directory)
    script = ROOT / "scripts" / "make_envelope_vectors.py"
    subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, check=True, env=os.environ
    )

    for name, ours in (("envelope_v1.json", V1), ("envelope_pq.json", PQ)):
        made = json.loads((directory / name).read_text())
        for kind in ("accepted", "refused"):
            for ours_case, case in zip(ours[kind], made[kind], strict=True):
                assert ours_case["envelope"] != case.pop("envelope")
                assert case == {
                    member: ours_case[member]
                    for member in ours_case
                    if member != "envelope"
                }
