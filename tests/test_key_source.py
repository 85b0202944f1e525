"""OTPSEAL_KEY: in a file or in a token, and a whole service over the latter."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pkcs11_token
import pytest
from pkcs11_token import URI, Tokens
from server_fixture import (
    code_at,
    otpseal,
    sealed_to,
    serving,
)

from otpseal import keypolicy, proof
from otpseal.adapters.file_keys import RsaKeys, generate_private_key, write_key_pair
from otpseal.config import Settings
from otpseal.errors import ConfigurationError, KeyUnavailable
from otpseal.key_source import load_private_key, private_key_exists, token_pin
from otpseal.unlocking import SERVICE_KEY_NAME
from otpseal.wiring import open_service


@pytest.fixture(scope="module", autouse=True)
def _uses_tokens() -> None:
    """Tell the other files of this process."""
    pkcs11_token.USED.append(__name__)


def _in_token(tokens: Tokens, **others: object) -> dict[str, Any]:
    """Return settings of a key in a token; the fixtures' key file is switched off."""
    return {
        "key_file": "",
        "key": URI,
        "pkcs11_module": tokens.module,
        "pkcs11_pin_file": tokens.pin_file,
        **others,
    }


class TestSettings:
    """One key, named once; what is contradictory or open to others is refused."""

    def test_a_file(self, tmp_path: Path, service_keys: RsaKeys) -> None:
        """`file:` and its absolute path are as OTPSEAL_KEY_FILE."""
        path = tmp_path / "student private.pem"
        write_key_pair(service_keys._private_key, path)
        settings = Settings(key=f"file:{path}")

        assert path == settings.key_path(SERVICE_KEY_NAME)
        assert private_key_exists(settings, SERVICE_KEY_NAME)
        assert service_keys.kid == load_private_key(settings, SERVICE_KEY_NAME).kid

    def test_no_file(self, tmp_path: Path) -> None:
        """A file that is not there does not exist."""
        settings = Settings(key=f"file:{tmp_path}/none.pem")

        assert not private_key_exists(settings, SERVICE_KEY_NAME)
        with pytest.raises(KeyUnavailable, match=str(tmp_path)):
            load_private_key(settings, SERVICE_KEY_NAME)

    @pytest.mark.parametrize(
        "key",
        [
            "/keys/student_private.pem",
            "student_private.pem",
            "file:student_private.pem",
            "file://host/student_private.pem",
            "file:///keys/student_private.pem",
            "file:/keys/student%20private.pem",
            "file:/",
            "FILE:/key.pem",
            "https://example.com/key.pem",
            "PKCS11:token=t;object=o",
        ],
    )
    def test_what_is_neither(self, key: str) -> None:
        """Nothing is guessed: relative paths, hosts, other schemes are refused."""
        settings = Settings(key=key)

        for use in (settings.key_uri, lambda: settings.key_path(SERVICE_KEY_NAME)):
            with pytest.raises(ConfigurationError, match="OTPSEAL_KEY is file:/"):
                use()

    @pytest.mark.parametrize("key", [URI, "file:/key.pem"])
    def test_not_both(self, key: str, tmp_path: Path) -> None:
        """OTPSEAL_KEY beside OTPSEAL_KEY_FILE is refused, whoever asks."""
        settings = Settings(key=key, key_file=tmp_path / "key.pem", data_dir=tmp_path)

        for ask in (load_private_key, private_key_exists):
            with pytest.raises(ConfigurationError, match="both given"):
                ask(settings, SERVICE_KEY_NAME)
        with (
            pytest.raises(ConfigurationError, match="both given"),
            open_service(settings),
        ):
            pass

    def test_a_token_needs_its_module(self) -> None:
        """The error names the setting."""
        with pytest.raises(ConfigurationError, match="needs OTPSEAL_PKCS11_MODULE"):
            load_private_key(Settings(key=URI), SERVICE_KEY_NAME)

    def test_the_extra_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without python-pkcs11 the error says how to get it."""
        monkeypatch.setitem(sys.modules, "pkcs11", None)
        monkeypatch.delitem(sys.modules, "otpseal.adapters.pkcs11_keys", raising=False)
        settings = Settings(key=URI, pkcs11_module=tmp_path / "module.so")

        with pytest.raises(ConfigurationError, match=r"pip install otpseal\[pkcs11\]"):
            load_private_key(settings, SERVICE_KEY_NAME)

    def test_a_pin_in_the_uri_is_in_no_repr(self) -> None:
        """It is refused, and not shown by whoever prints the settings meanwhile."""
        settings = Settings(key=f"{URI}?pin-value=canary-of-a-pin")

        assert "canary-of-a-pin" not in repr(settings)
        with pytest.raises(ConfigurationError, match="secrets do not belong"):
            settings.key_uri()

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
    def test_a_pin_open_to_others(self, tmp_path: Path, mode: int) -> None:
        """As a private key's file: one bit is refused, with its remedy."""
        path = tmp_path / "pin"
        path.write_text("1234\n")
        path.chmod(mode)

        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600"):
            token_pin(Settings(pkcs11_pin_file=path))

    def test_a_pin(self, tmp_path: Path) -> None:
        """Its first line; none without a file; an error without content."""
        path = tmp_path / "pin"
        path.touch(0o600)
        settings = Settings(pkcs11_pin_file=path)

        assert token_pin(Settings()) is None
        with pytest.raises(ConfigurationError, match="is empty"):
            token_pin(settings)
        path.write_text("1234\r\nnot this\n")
        pin = token_pin(settings)
        assert pin is not None
        assert b"1234" == pin.reveal()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_whose_key_is_in_a_token(
    tokens: Tokens,
    tmp_path: Path,
    service_keys: RsaKeys,
    other_keys: RsaKeys,
    workers: int,
) -> None:
    """It opens sealed seeds and makes and checks codes; no private key is on disk.

    The key file that the fixture writes is another's, and nobody reads it.
    """
    given = _in_token(tokens, workers=workers)
    with serving(tmp_path, other_keys, **given) as server:
        body = json.dumps({"encrypted_seed": sealed_to(service_keys)}).encode()
        assert 200 == server.post("/decrypt-seed", body).status
        foreign = json.dumps({"encrypted_seed": sealed_to(other_keys)}).encode()
        assert 500 == server.post("/decrypt-seed", foreign).status

        # The token is unplugged and plugged in again.
        tokens.cut_off()
        assert 200 == server.post("/decrypt-seed", body).status
        shown = server.get("/generate-2fa").json["code"]
        assert shown in {code_at(time.time()), code_at(time.time() - 30)}
        code = json.dumps({"code": code_at(time.time())}).encode()
        assert [True, False] == [
            server.post("/verify-2fa", code).json["valid"] for _ in range(2)
        ]
        doctor = otpseal("doctor", "--json", data_dir=tmp_path / "data", **given)
        assert 0 == server.stop()

    findings = {
        finding["check"]: finding["text"]
        for finding in json.loads(doctor.stdout)["findings"]
    }
    assert 0 == doctor.returncode, doctor.stdout
    assert "in a token (OTPSEAL_KEY)" == findings["private key"]
    assert f"belong together, key id {service_keys.kid}" == findings["key and store"]
    assert findings["token PIN file"].endswith("mode 0600")
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not [path for path in written if b"PRIVATE KEY" in path.read_bytes()]
    assert pkcs11_token.PIN not in server.log()


class TestCommands:
    """Each copes with a key in a token, or says that it works on files."""

    @pytest.fixture
    def given(self, tokens: Tokens, tmp_path: Path) -> dict[str, Any]:
        """Settings of an empty directory."""
        return _in_token(tokens, data_dir=tmp_path / "data")

    def test_seed_and_codes(self, given: dict[str, Any], service_keys: RsaKeys) -> None:
        """A store is made new for a key in a token, by the command line too."""
        sealed = sealed_to(service_keys)

        done = otpseal("seed", "import", "-", stdin=sealed, **given)
        assert (0, "the seed is stored\n") == (done.returncode, done.stdout)
        code = json.loads(otpseal("code", "--json", **given).stdout)["code"]
        assert 0 == otpseal("verify", code, **given).returncode

    def test_backup_and_restore(
        self, given: dict[str, Any], service_keys: RsaKeys, tmp_path: Path
    ) -> None:
        """A backup is signed, and a store restored, by the key in the token."""
        otpseal("seed", "import", "-", stdin=sealed_to(service_keys), **given)

        backup = str(tmp_path / "backup")
        done = otpseal("backup", backup, **given)
        assert 0 == done.returncode, done.stderr
        there = {**given, "data_dir": tmp_path / "restored"}
        done = otpseal("restore", backup, **there)
        assert 0 == done.returncode, done.stderr
        assert 0 == otpseal("code", **there).returncode

    def test_keys_show(self, given: dict[str, Any], service_keys: RsaKeys) -> None:
        """Its id; and the public half, which an authority seals to."""
        shown = json.loads(otpseal("keys", "show", "--json", **given).stdout)
        pem = otpseal("keys", "show", "--pem", **given).stdout

        expected = {"kid": service_keys.kid, "bits": 4096, "kind": "private"}
        assert expected == shown
        assert keypolicy.public_pem(service_keys.public_key) == pem.encode()

    def test_keys_generate(self, given: dict[str, Any]) -> None:
        """Keys in tokens are made by the token's own tools."""
        done = otpseal("keys", "generate", **given)

        assert 2 == done.returncode
        assert "a token's keys are made by its own tools" in done.stderr

    def test_proof(
        self, given: dict[str, Any], service_keys: RsaKeys, tmp_path: Path
    ) -> None:
        """A commit proof is signed in the token, with the longest salt."""
        authority = RsaKeys(generate_private_key(5120))
        pem = tmp_path / "instructor_public.pem"
        pem.write_bytes(keypolicy.public_pem(authority.public_key))
        commit = "0123456789" * 4

        done = otpseal(
            *("proof", "create", "--commit", commit, "--json"),
            *("--authority-key", str(pem)),
            **given,
        )

        proof.verify(
            json.loads(done.stdout)["proof"],
            commit,
            decrypt=authority.oaep_decrypt,
            signer_key=service_keys.public_key,
        )

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"key_file": "/keys/key.pem"}, "both given"),
            ({"key": "pkcs11:token=none;object=o"}, "shows no token 'none'"),
            ({"key": f"{URI};pin-value=canary"}, "secrets do not belong in settings"),
            ({"pkcs11_module": "/none.so"}, "/none.so cannot be loaded"),
            ({"pkcs11_module": ""}, "needs OTPSEAL_PKCS11_MODULE"),
            ({"pkcs11_pin_file": ""}, "OTPSEAL_PKCS11_PIN_FILE"),
            ({"pkcs11_pin_file": "/none"}, "/none cannot be read"),
            ({"other_key": "key.pem"}, "OTPSEAL_OTHER_KEY is file:/"),
        ],
    )
    def test_doctor(
        self,
        given: dict[str, Any],
        service_keys: RsaKeys,
        change: dict[str, Any],
        told: str,
    ) -> None:
        """It says what is wrong with the token's settings; so does every command."""
        otpseal("seed", "import", "-", stdin=sealed_to(service_keys), **given)
        changed = {**given, **change}

        doctor = otpseal("doctor", "--json", **changed)
        code = otpseal("code", **changed)

        found = [
            finding["text"]
            for finding in json.loads(doctor.stdout)["findings"]
            if finding["verdict"] == "failure"
        ]
        assert 1 == doctor.returncode
        assert any(told in text for text in found), found
        assert code.returncode in {2, 3}
        assert told in code.stderr
        for text in (doctor.stdout, doctor.stderr, code.stderr):
            assert "Traceback" not in text
            assert "canary" not in text
