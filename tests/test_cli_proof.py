"""`otpseal proof` and scripts/generate_proof.py, as processes in a git repository."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from otpseal import keypolicy, proof
from otpseal.adapters.file_keys import RsaKeys, generate_private_key, write_key_pair

_SCRIPT = Path(__file__).parents[1] / "scripts" / "generate_proof.py"
_WITHIN_S = 60
_COMMIT = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
_DIRTY = (
    "warning: the working tree has changes or files that are in no commit:"
    " the proof does not cover them\n"
)


@pytest.fixture(scope="module")
def authority_keys() -> RsaKeys:
    """The smallest authority key that carries a proof by a 4096-bit key."""
    return RsaKeys(generate_private_key(4624))


@dataclass
class _Place:
    """A directory with the exercise's files, and the programs run in it."""

    path: Path

    def run(
        self, *arguments: str | Path, stdin: str = "", **variables: str | Path
    ) -> "subprocess.CompletedProcess[str]":
        variables = {"OTPSEAL_KEY_FILE": "student_private.pem", **variables}
        return self._run("-m", "otpseal", "proof", *arguments, stdin=stdin, **variables)

    def script(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._run(_SCRIPT, *arguments)

    def _run(
        self, *arguments: str | Path, stdin: str = "", **variables: str | Path
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env={**_environment(), **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )

    def git(self, *arguments: str) -> str:
        ran = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env=_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "work")
        return self.git("rev-parse", "HEAD")


def _environment() -> dict[str, str]:
    """Return an environment in which git knows no one's settings."""
    return {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }


@pytest.fixture
def place(tmp_path: Path, service_keys: RsaKeys, authority_keys: RsaKeys) -> _Place:
    """The exercise's files, outside of any repository."""
    write_key_pair(service_keys._private_key, tmp_path / "student_private.pem")
    write_key_pair(authority_keys._private_key, tmp_path / "instructor_private.pem")
    (tmp_path / ".gitignore").write_text("*.pem\n")
    return _Place(tmp_path)


@pytest.fixture
def repository(place: _Place) -> _Place:
    """The same, as a repository with one commit and a clean tree."""
    place.git("init", "--quiet")
    place.commit()
    return place


def _verify(made: str, commit: str, authority: RsaKeys, service: RsaKeys) -> None:
    proof.verify(
        made, commit, decrypt=authority.oaep_decrypt, signer_key=service.public_key
    )


class TestCreate:
    """A proof of the current or of a given commit."""

    def test_of_head(
        self, repository: _Place, authority_keys: RsaKeys, service_keys: RsaKeys
    ) -> None:
        """Two lines as the exercise prints them; nothing on stderr if all is clean."""
        head = repository.git("rev-parse", "HEAD")

        ran = repository.run("create")

        first, second = ran.stdout.splitlines()
        assert "" == ran.stderr
        assert f"Commit Hash: {head}" == first
        assert second.startswith("Encrypted Signature: ")
        made = second.removeprefix("Encrypted Signature: ")
        _verify(made, head, authority_keys, service_keys)

    def test_by_the_script_of_the_exercise(
        self, repository: _Place, authority_keys: RsaKeys, service_keys: RsaKeys
    ) -> None:
        """generate_proof.py prints the same two lines, with the files found here."""
        head = repository.git("rev-parse", "HEAD")

        ran = repository.script()

        first, second = ran.stdout.splitlines()
        assert f"Commit Hash: {head}" == first
        made = second.removeprefix("Encrypted Signature: ")
        _verify(made, head, authority_keys, service_keys)

    def test_in_a_directory_below(self, repository: _Place) -> None:
        """HEAD is that of the repository around."""
        below = _Place(repository.path / "below")
        below.path.mkdir()

        ran = below.run(
            *("create", "--json", "--key-file", "../student_private.pem"),
            *("--authority-key", "../instructor_public.pem"),
        )

        head = repository.git("rev-parse", "HEAD")
        assert head == json.loads(ran.stdout)["commit"]

    def test_in_a_sha_256_repository(
        self, place: _Place, authority_keys: RsaKeys, service_keys: RsaKeys
    ) -> None:
        """A hash of 64 digits is signed as it is."""
        place.git("init", "--quiet", "--object-format=sha256")
        head = place.commit()

        shown = json.loads(place.run("create", "--json").stdout)

        assert 64 == len(head)
        assert head == shown["commit"]
        _verify(shown["proof"], head, authority_keys, service_keys)

    @pytest.mark.parametrize("what", ["changed", "staged", "untracked"])
    def test_a_dirty_tree_is_warned_of(self, repository: _Place, what: str) -> None:
        """The proof is made all the same, and the warning is on stderr alone."""
        if what == "untracked":
            (repository.path / "new.py").touch()
        else:
            (repository.path / ".gitignore").write_text("*.pem\n*.txt\n")
        if what == "staged":
            repository.git("add", "--all")

        ran = repository.run("create")

        assert 0 == ran.returncode
        assert _DIRTY == ran.stderr
        assert 2 == len(ran.stdout.splitlines())

    def test_of_a_given_commit(
        self, place: _Place, authority_keys: RsaKeys, service_keys: RsaKeys
    ) -> None:
        """Outside of any repository, and without git at all."""
        ran = place.run("create", "--commit", _COMMIT, "--json", PATH="/nowhere")

        shown = json.loads(ran.stdout)
        assert "" == ran.stderr
        assert {"commit", "proof"} == set(shown)
        assert _COMMIT == shown["commit"]
        _verify(shown["proof"], _COMMIT, authority_keys, service_keys)

    @pytest.mark.parametrize(
        "commit", ["HEAD", _COMMIT[:7], _COMMIT.upper(), _COMMIT + "\n", "", "g" * 40]
    )
    def test_of_nothing_but_a_full_hash(self, repository: _Place, commit: str) -> None:
        """Anything else is refused, an abbreviation too."""
        ran = repository.run("create", "--commit", commit)

        assert 1 == ran.returncode
        assert "" == ran.stdout
        assert "40 or 64 lower-case hexadecimal digits" in ran.stderr

    def test_where_there_is_no_commit(self, place: _Place) -> None:
        """Neither outside of a repository, nor before its first commit."""
        outside = place.run("create")
        place.git("init", "--quiet")
        unborn = place.run("create")

        for ran in (outside, unborn):
            assert 1 == ran.returncode
            assert "error: git names no commit here" in ran.stderr
            assert "--commit" in ran.stderr

    def test_for_a_key_that_is_too_small(
        self, place: _Place, other_keys: RsaKeys
    ) -> None:
        """The refusal names the size that is needed."""
        path = place.path / "small.pem"
        path.write_bytes(keypolicy.public_pem(other_keys.public_key))

        ran = place.run("create", "--commit", _COMMIT, "--authority-key", path)

        assert 1 == ran.returncode
        assert "" == ran.stdout
        assert "has 4096 bits" in ran.stderr
        assert "needs at least 4624" in ran.stderr

    def test_for_a_key_that_is_not_there(self, place: _Place) -> None:
        """Or is no public key: named, exit code 3."""
        missing = place.run("create", "--authority-key", "nowhere.pem")
        private = place.run("create", "--authority-key", "instructor_private.pem")

        assert (3, 3) == (missing.returncode, private.returncode)
        assert "there is no public key at nowhere.pem" in missing.stderr
        assert "not a public key in PEM form" in private.stderr

    def test_by_a_key_that_is_not_there(self, place: _Place) -> None:
        """The private key is looked for where the service has it."""
        ran = place.run("create", "--commit", _COMMIT, "--key-file", "nowhere.pem")

        assert 3 == ran.returncode
        assert "there is no private key at nowhere.pem" in ran.stderr

    def test_into_a_file(
        self, place: _Place, authority_keys: RsaKeys, service_keys: RsaKeys
    ) -> None:
        """One line; the proof of the commit before is replaced whole, not rewritten."""
        out, kept = place.path / "proof.txt", place.path / "kept.txt"
        out.write_text("the last one")
        kept.hardlink_to(out)

        ran = place.run("create", "--commit", _COMMIT, "--out", "proof.txt")

        assert [
            f"Commit Hash: {_COMMIT}",
            "Encrypted Signature written to proof.txt",
        ] == ran.stdout.splitlines()
        (line,) = out.read_text().splitlines()
        _verify(line, _COMMIT, authority_keys, service_keys)
        assert "the last one" == kept.read_text()
        assert [] == list(place.path.glob(".proof.txt.*"))

    def test_into_a_file_that_cannot_be(self, place: _Place) -> None:
        """Said in one line, exit code 2."""
        ran = place.run("create", "--commit", _COMMIT, "--out", "nowhere/proof.txt")

        assert 2 == ran.returncode
        assert "error: nowhere/proof.txt cannot be written" in ran.stderr


class TestVerify:
    """A proof opens with the authority's key and is by the service's."""

    OPTIONS = ("--commit", _COMMIT, "--authority-private-key", "instructor_private.pem")

    @pytest.fixture
    def proven(
        self, place: _Place, authority_keys: RsaKeys, service_keys: RsaKeys
    ) -> _Place:
        """A proof in proof.txt."""
        made = proof.create(
            _COMMIT, signer=service_keys, authority_key=authority_keys.public_key
        )
        (place.path / "proof.txt").write_text(made + "\n")
        return place

    def test_a_sound_proof(self, proven: _Place, service_keys: RsaKeys) -> None:
        """From a file or from stdin, in words or JSON: exit code 0."""
        text = (proven.path / "proof.txt").read_text()

        from_file = proven.run("verify", "--proof", "proof.txt", *self.OPTIONS)
        from_stdin = proven.run(
            *("verify", "--proof", "-", "--json", *self.OPTIONS), stdin=text
        )

        expected = {"valid": True, "commit": _COMMIT, "kid": service_keys.kid}
        assert (
            f"valid: commit {_COMMIT} is signed by key {service_keys.kid}\n"
            == from_file.stdout
        )
        assert expected == json.loads(from_stdin.stdout)
        assert (0, 0) == (from_file.returncode, from_stdin.returncode)

    def test_another_commit(self, proven: _Place) -> None:
        """Exit code 1, and nothing on stdout that a script could misread."""
        ran = proven.run(
            *("verify", "--proof", "proof.txt", *self.OPTIONS),
            *("--commit", "0" * 40, "--json"),
        )

        assert 1 == ran.returncode
        assert "" == ran.stdout
        assert "not by this public key over this commit" in ran.stderr

    def test_another_signer(self, proven: _Place, other_keys: RsaKeys) -> None:
        """Exit code 1."""
        path = proven.path / "other.pem"
        path.write_bytes(keypolicy.public_pem(other_keys.public_key))

        ran = proven.run(
            *("verify", "--proof", "proof.txt", *self.OPTIONS, "--public-key", path)
        )

        assert 1 == ran.returncode
        assert "not by this public key over this commit" in ran.stderr

    def test_another_authority(self, proven: _Place) -> None:
        """Exit code 1."""
        ran = proven.run(
            *("verify", "--proof", "proof.txt", "--commit", _COMMIT),
            *("--authority-private-key", "student_private.pem"),
        )

        assert 1 == ran.returncode
        assert "does not open with this authority key" in ran.stderr

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"", "does not open"),
            (b"hello!", "not standard base64"),
            (b"\xff\xfe\0", "not standard base64"),
            (b"A" * 1_000_000, "not standard base64"),
        ],
        ids=["empty", "text", "bytes", "enormous"],
    )
    def test_no_proof(self, proven: _Place, content: bytes, told: str) -> None:
        """Whatever is in the file: one line, exit code 1."""
        (proven.path / "proof.txt").write_bytes(content)

        ran = proven.run("verify", "--proof", "proof.txt", *self.OPTIONS)

        assert 1 == ran.returncode
        assert told in ran.stderr
        assert 1 == ran.stderr.count("\n")

    def test_a_missing_file(self, proven: _Place) -> None:
        """Named, exit code 2."""
        ran = proven.run("verify", "--proof", "nowhere.txt", *self.OPTIONS)

        assert 2 == ran.returncode
        assert "error: the proof nowhere.txt cannot be read" in ran.stderr
