"""`otpseal keys` and scripts/generate_keys.py, as processes."""

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from openssl_cli import openssl

from otpseal import keypolicy
from otpseal.adapters.file_keys import (
    RsaKeys,
    generate_private_key,
    load_keys,
    load_public_key,
    write_key_pair,
)

_SCRIPT = Path(__file__).parents[1] / "scripts" / "generate_keys.py"
_WITHIN_S = 60
_PASSPHRASE = "correct horse battery staple"


def _run(
    directory: Path, *arguments: str | Path, **variables: str | Path
) -> "subprocess.CompletedProcess[str]":
    """Run `otpseal keys` in a directory, with OTPSEAL_ variables."""
    return subprocess.run(
        [sys.executable, "-m", "otpseal", "keys", *arguments],
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.*"))


class TestGenerate:
    """Keys are made where they are looked for, and never over others."""

    def test_where_the_service_looks(self, tmp_path: Path) -> None:
        """RSA-4096 with e = 65537, PKCS#8 0600 and SPKI 0644, and their id."""
        ran = _run(tmp_path, "generate")

        private = tmp_path / "data" / "keys" / "student_private.pem"
        public = tmp_path / "data" / "keys" / "student_public.pem"
        keys = load_keys(private)
        assert 0 == ran.returncode, ran.stderr
        assert [
            "private key: data/keys/student_private.pem",
            "public key:  data/keys/student_public.pem",
            f"key id:      {keys.kid}",
        ] == ran.stdout.splitlines()
        assert 4096 == keys.public_key.key_size
        assert 65537 == keys.public_key.public_numbers().e
        assert keys.public_key == load_public_key(public)
        assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
        assert (0o600, 0o644) == (_mode(private), _mode(public))

    def test_says_on_stderr_that_it_searches(self, tmp_path: Path) -> None:
        """One plain line where no terminal is; stdout stays for results."""
        ran = _run(tmp_path, "generate", "--key-file", "k.pem", "--json")

        told = "searching for the primes of an RSA-4096 key; this may take a while\n"
        keys = load_keys(tmp_path / "k.pem")
        assert told == ran.stderr
        assert {
            "private_key": "k.pem",
            "public_key": "k.pub.pem",
            "kid": keys.kid,
            "bits": 4096,
        } == json.loads(ran.stdout)

    def test_shows_a_spinner_on_a_terminal(self, tmp_path: Path) -> None:
        """People see something move; stdout has the result alone."""
        leader, follower = pty.openpty()
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "otpseal", "keys", "generate", "--out", "."],
                cwd=tmp_path,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
                stdout=subprocess.PIPE,
                stderr=follower,
                text=True,
                timeout=_WITHIN_S,
                check=False,
            )
            shown = os.read(leader, 100_000).decode()
        finally:
            os.close(leader)
            os.close(follower)

        assert 0 == ran.returncode, shown
        assert "searching for the primes of an RSA-4096 key" in shown
        assert "\x1b[" in shown
        assert "\x1b" not in ran.stdout
        assert ran.stdout.startswith("private key: student_private.pem\n")

    @pytest.mark.timeout(600)
    def test_for_an_authority(self, tmp_path: Path) -> None:
        """RSA-8192, which can receive commit proofs, under the authority's names."""
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "otpseal", "keys", "generate"),
                *("--for", "authority", "--json"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )

        shown = json.loads(ran.stdout)
        assert "data/authority/keys/instructor_private.pem" == shown["private_key"]
        assert "data/authority/keys/instructor_public.pem" == shown["public_key"]
        assert 8192 == shown["bits"]
        assert 8192 == load_public_key(tmp_path / shown["public_key"]).key_size

    @pytest.mark.parametrize("name", ["student_private.pem", "student_public.pem"])
    def test_never_overwrites(self, tmp_path: Path, name: str) -> None:
        """Exit code 3 before any search; the file that is there stays as it is."""
        (tmp_path / name).write_text("precious")

        ran = _run(tmp_path, "generate", "--out", ".")

        assert 3 == ran.returncode
        assert "" == ran.stdout
        assert (
            f"error: {name} exists and is not overwritten: move it away first, or"
            " name another place\n"
        ) == ran.stderr
        assert "precious" == (tmp_path / name).read_text()
        assert [name] == _files(tmp_path)

    def test_with_a_passphrase(self, tmp_path: Path) -> None:
        """The private half is encrypted; the passphrase is shown nowhere."""
        passphrase = tmp_path / "passphrase"
        passphrase.write_text(_PASSPHRASE + "\n")

        ran = _run(
            tmp_path, "generate", "--out", ".", OTPSEAL_KEY_PASSPHRASE_FILE=passphrase
        )

        path = tmp_path / "student_private.pem"
        keys = load_keys(path, _PASSPHRASE.encode())
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
        assert keys.kid in ran.stdout
        assert _PASSPHRASE not in ran.stdout + ran.stderr

    @pytest.mark.parametrize(
        ("content", "told"), [(None, "cannot be read"), ("\n", "is empty")]
    )
    def test_a_missing_passphrase_is_not_none(
        self, tmp_path: Path, content: str | None, told: str
    ) -> None:
        """If the passphrase does not load, no unprotected key is made instead."""
        passphrase = tmp_path / "passphrase"
        if content is not None:
            passphrase.write_text(content)

        ran = _run(
            tmp_path, "generate", "--out", ".", OTPSEAL_KEY_PASSPHRASE_FILE=passphrase
        )

        assert 2 == ran.returncode
        assert f"error: OTPSEAL_KEY_PASSPHRASE_FILE: {passphrase} {told}" in ran.stderr
        assert [] == _files(tmp_path)

    def test_two_places_are_one_too_many(self, tmp_path: Path) -> None:
        """Wrong usage is exit code 2, and nothing is made."""
        ran = _run(tmp_path, "generate", "--out", ".", "--key-file", "k.pem")

        assert 2 == ran.returncode
        assert [] == _files(tmp_path)

    def test_a_place_that_cannot_be(self, tmp_path: Path) -> None:
        """A directory that cannot be made is named."""
        (tmp_path / "file").write_text("no directory")

        ran = _run(tmp_path, "generate", "--out", "file")

        assert 3 == ran.returncode
        assert "error: the key cannot be written to file: " in ran.stderr

    def test_the_script_of_the_exercise(self, tmp_path: Path) -> None:
        """generate_keys.py makes the two files of the exercise where it runs."""
        ran = subprocess.run(
            [sys.executable, _SCRIPT],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )

        assert 0 == ran.returncode, ran.stderr
        assert ["student_private.pem", "student_public.pem"] == _files(tmp_path)
        assert load_keys(tmp_path / "student_private.pem").kid in ran.stdout


class TestShow:
    """The id, size and kind of a key file, or why it is refused."""

    @pytest.mark.parametrize("kind", ["private", "public"])
    def test_both_halves(
        self, tmp_path: Path, service_keys: RsaKeys, kind: str
    ) -> None:
        """They have one id."""
        write_key_pair(service_keys._private_key, tmp_path / "student_private.pem")

        ran = _run(tmp_path, "show", f"student_{kind}.pem")
        as_json = _run(tmp_path, "show", f"student_{kind}.pem", "--json")

        expected = {"kid": service_keys.kid, "bits": 4096, "kind": kind}
        assert 0 == ran.returncode, ran.stderr
        assert [
            f"key id: {service_keys.kid}",
            "bits:   4096",
            f"kind:   {kind}",
        ] == ran.stdout.splitlines()
        assert expected == json.loads(as_json.stdout)

    def test_with_a_passphrase(self, tmp_path: Path, service_keys: RsaKeys) -> None:
        """It opens by the passphrase file, and says so if there is none."""
        write_key_pair(
            service_keys._private_key, tmp_path / "k.pem", _PASSPHRASE.encode()
        )
        passphrase, wrong = tmp_path / "passphrase", tmp_path / "wrong"
        passphrase.write_text(_PASSPHRASE)
        wrong.write_text("wrong canary")

        ran = _run(tmp_path, "show", "k.pem", OTPSEAL_KEY_PASSPHRASE_FILE=passphrase)
        without = _run(tmp_path, "show", "k.pem")
        by_wrong = _run(tmp_path, "show", "k.pem", OTPSEAL_KEY_PASSPHRASE_FILE=wrong)

        assert f"key id: {service_keys.kid}\n" in ran.stdout
        assert 3 == without.returncode
        assert "set OTPSEAL_KEY_PASSPHRASE_FILE" in without.stderr
        assert 3 == by_wrong.returncode
        assert "does not open with this passphrase" in by_wrong.stderr
        assert "canary" not in by_wrong.stderr

    def test_traditional_pem(self, tmp_path: Path, service_keys: RsaKeys) -> None:
        """What `openssl rsa -traditional` writes is a private key too."""
        path = tmp_path / "key.pem"
        path.touch(0o600)
        pem = keypolicy.private_pem(service_keys._private_key)
        path.write_bytes(openssl("rsa", "-traditional", stdin=pem))

        ran = _run(tmp_path, "show", "key.pem", "--json")

        expected = {"kid": service_keys.kid, "bits": 4096, "kind": "private"}
        assert expected == json.loads(ran.stdout)

    def test_open_to_others(self, tmp_path: Path, service_keys: RsaKeys) -> None:
        """A private key that the group can read is refused, with the remedy."""
        path = tmp_path / "student_private.pem"
        write_key_pair(service_keys._private_key, path)
        path.chmod(0o640)

        ran = _run(tmp_path, "show", "student_private.pem")

        assert 3 == ran.returncode
        assert "mode 0640): run `chmod 600 student_private.pem`" in ran.stderr
        assert "" == ran.stdout

    def test_bad_keys(self, tmp_path: Path) -> None:
        """Each is one line on stderr, exit code 3, and never a traceback."""
        small = generate_private_key(2048)
        curve = ec.generate_private_key(ec.SECP256R1()).public_key()
        contents = {
            "2048.pem": (keypolicy.private_pem(small), "2048 bits; 3072 to 8192"),
            "2048.pub.pem": (keypolicy.public_pem(small.public_key()), "2048 bits"),
            "3.pem": (openssl("genrsa", "-3", "3072"), "exponent is not 65537"),
            "primes.pem": (openssl("genrsa", "-primes", "3", "4096"), "two primes"),
            "curve.pem": (keypolicy.public_pem(curve), "not an RSA key"),  # type: ignore[arg-type]
            "text.pem": (b"hello", "not a public key in PEM form"),
            "empty.pem": (b"", "not a public key in PEM form"),
        }
        for name, (content, told) in contents.items():
            (tmp_path / name).touch(0o600)
            (tmp_path / name).write_bytes(content)

            ran = _run(tmp_path, "show", name)

            assert 3 == ran.returncode, name
            assert ran.stderr.startswith(f"error: {name}: "), ran.stderr
            assert told in ran.stderr
            assert 1 == ran.stderr.count("\n")

    def test_missing(self, tmp_path: Path) -> None:
        """No file is no traceback either."""
        ran = _run(tmp_path, "show", "nowhere.pem")

        assert 3 == ran.returncode
        assert "error: there is no public key at nowhere.pem" in ran.stderr
