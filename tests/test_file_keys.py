"""otpseal.adapters.file_keys: key files. Their contract: test_keys_contract.py."""

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otpseal import keypolicy
from otpseal.adapters import file_keys, private_files
from otpseal.adapters.file_keys import RsaKeys, generate_private_key
from otpseal.errors import KeyRefused, KeyUnavailable


@pytest.fixture(scope="module")
def key_pem(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A 3072-bit private key as PEM, for children that need one."""
    return keypolicy.private_pem(generate_private_key(3072))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "keys"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _write(key: RsaKeys, path: Path, passphrase: bytes | None = None) -> None:
    file_keys.write_key_pair(key._private_key, path, passphrase)


class TestWriting:
    """Both halves or none, with their modes, over nothing that exists."""

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
    def test_modes(self, service_keys: RsaKeys, home: Path, umask: int) -> None:
        """0600 and 0644 whatever the umask is, and nothing else in the directory."""
        home.mkdir()
        before = os.umask(umask)
        try:
            _write(service_keys, home / "student_private.pem")
        finally:
            os.umask(before)

        assert 0o600 == _mode(home / "student_private.pem")
        assert 0o644 == _mode(home / "student_public.pem")
        assert ["student_private.pem", "student_public.pem"] == sorted(
            os.listdir(home)  # noqa: PTH208 - hidden files too
        )

    def test_makes_a_private_directory(self, service_keys: RsaKeys, home: Path) -> None:
        """A new directory for keys is nobody else's."""
        _write(service_keys, home / "student_private.pem")

        assert 0o700 == _mode(home)

    def test_what_is_written_loads(self, service_keys: RsaKeys, home: Path) -> None:
        """Both halves come back as the same key."""
        path = home / "student_private.pem"

        _write(service_keys, path)

        assert service_keys.kid == file_keys.load_keys(path).kid
        public = file_keys.load_public_key(home / "student_public.pem")
        assert service_keys.public_key == public

    def test_with_a_passphrase(self, service_keys: RsaKeys, home: Path) -> None:
        """The file opens with the passphrase alone."""
        path = home / "student_private.pem"

        _write(service_keys, path, b"passphrase")

        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        assert service_keys.kid == file_keys.load_keys(path, b"passphrase").kid
        with pytest.raises(KeyUnavailable, match="protected by a passphrase"):
            file_keys.load_keys(path)

    @pytest.mark.parametrize("name", ["student_private.pem", "student_public.pem"])
    @pytest.mark.parametrize("what", ["file", "empty", "directory", "dangling link"])
    def test_never_overwrites(
        self, service_keys: RsaKeys, home: Path, name: str, what: str
    ) -> None:
        """Whatever has one of the two names stays, and the other half is not made."""
        home.mkdir()
        taken = home / name
        {
            "file": lambda: taken.write_bytes(b"precious"),
            "empty": taken.touch,
            "directory": taken.mkdir,
            "dangling link": lambda: taken.symlink_to(home / "nowhere"),
        }[what]()
        before = taken.lstat()

        with pytest.raises(KeyUnavailable, match=f"{name} exists"):
            file_keys.refuse_existing(home / "student_private.pem")
        with pytest.raises(KeyUnavailable, match=f"{name} exists"):
            _write(service_keys, home / "student_private.pem")

        assert before == taken.lstat()
        assert [taken] == list(home.iterdir())

    def test_a_race_for_the_name_has_one_winner(self, home: Path) -> None:
        """Of many that create a file at once one succeeds, and its content stands."""
        home.mkdir()
        path = home / "file"

        def create(content: bytes) -> bytes | None:
            try:
                private_files.create_file(path, content, mode=0o600)
            except FileExistsError:
                return None
            return content

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, [b"%d" % n for n in range(64)]))

        winners = [content for content in won if content is not None]
        assert [path.read_bytes()] == winners
        assert [path] == list(home.iterdir())

    def test_half_a_pair_is_taken_back(
        self, service_keys: RsaKeys, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the public half's name is taken meanwhile, no private half is left."""
        home.mkdir()
        (home / "student_public.pem").write_bytes(b"precious")
        monkeypatch.setattr(file_keys, "refuse_existing", lambda path: None)

        with pytest.raises(KeyUnavailable, match="File exists"):
            _write(service_keys, home / "student_private.pem")

        assert [home / "student_public.pem"] == list(home.iterdir())
        assert b"precious" == (home / "student_public.pem").read_bytes()

    def test_a_process_that_starts_between_the_halves_takes_nothing_away(
        self, service_keys: RsaKeys, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It saw the private half alone and made the other one: the pair stands."""
        path = home / "student_private.pem"
        sync = private_files.sync_directory

        def sync_and_let_another_start(directory: Path) -> None:
            sync(directory)
            monkeypatch.setattr(private_files, "sync_directory", sync)
            found = file_keys.load_keys(path)
            file_keys.restore_public_half(found.public_key, path)

        monkeypatch.setattr(private_files, "sync_directory", sync_and_let_another_start)

        _write(service_keys, path)

        assert service_keys.kid == file_keys.load_keys(path).kid
        public = file_keys.load_public_key(home / "student_public.pem")
        assert service_keys.kid == keypolicy.key_id(public)

    def test_a_full_disk_leaves_nothing(self, key_pem: bytes, home: Path) -> None:
        """A write that fails half-way leaves no file, and says where it failed."""
        limit = (
            "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        )

        ran = subprocess.run(
            [sys.executable, "-c", limit + _CHILD, home / "student_private.pem"],
            input=key_pem,
            capture_output=True,
            check=False,
        )

        told = f"KeyUnavailable the key cannot be written to {home}: File too large\n"
        assert told == ran.stdout.decode()
        assert [] == list(home.iterdir())

    def test_a_kill_leaves_no_part_under_the_name(
        self, key_pem: bytes, home: Path
    ) -> None:
        """Killed before the file is durable: no key, and the next try succeeds."""
        path = home / "student_private.pem"
        kill = "os.fsync = lambda fd: os.kill(os.getpid(), 9)\n"

        killed = subprocess.run(
            [sys.executable, "-c", _CHILD.replace("try:", kill + "try:", 1), path],
            input=key_pem,
            check=False,
        )
        left = list(home.iterdir())
        ran = subprocess.run(
            [sys.executable, "-c", _CHILD, path], input=key_pem, check=False
        )

        assert -signal.SIGKILL == killed.returncode
        assert path not in left
        assert [0o600] == [_mode(file) for file in left]
        assert 0 == ran.returncode
        assert key_pem == path.read_bytes()

    def test_a_place_that_cannot_be(self, service_keys: RsaKeys, home: Path) -> None:
        """A file where the directory should be is named in the error."""
        home.write_bytes(b"no directory")

        with pytest.raises(KeyUnavailable, match=f"cannot be written to {home}"):
            _write(service_keys, home / "student_private.pem")


# Writes the key on its stdin to the path in its argument.
_CHILD = """
import os, sys
from pathlib import Path
from otpseal import keypolicy
from otpseal.adapters import file_keys

key = keypolicy.parse_private_key(sys.stdin.buffer.read())
try:
    file_keys.write_key_pair(key, Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("private", "public"),
    [
        ("student_private.pem", "student_public.pem"),
        ("instructor_private.pem", "instructor_public.pem"),
        ("service.pem", "service.pub.pem"),
        ("service", "service.pub.pem"),
    ],
)
def test_where_the_public_half_lies(private: str, public: str) -> None:
    """Beside the private one, under the name that the exercise gives it."""
    assert Path("/keys") / public == file_keys.public_path(Path("/keys") / private)


class TestLoading:
    """What is loaded, and what is refused with advice."""

    @pytest.fixture
    def path(self, service_keys: RsaKeys, home: Path) -> Path:
        """A private key file."""
        _write(service_keys, home / "student_private.pem")
        return home / "student_private.pem"

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
    def test_modes_that_are_accepted(
        self, service_keys: RsaKeys, path: Path, mode: int
    ) -> None:
        """Whatever the owner may do, if nobody else may do anything."""
        path.chmod(mode)

        assert service_keys.kid == file_keys.load_keys(path).kid

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644])
    def test_open_to_others(self, path: Path, mode: int) -> None:
        """One bit for group or others is refused, with its remedy."""
        path.chmod(mode)

        with pytest.raises(KeyUnavailable, match=f"mode {mode:04o}.*chmod 600"):
            file_keys.load_keys(path)

    def test_the_mode_is_that_of_the_file_behind_a_link(
        self, service_keys: RsaKeys, path: Path
    ) -> None:
        """Orchestrators mount secrets as links, which always say 0777."""
        link = path.with_name("link.pem")
        link.symlink_to(path)

        assert service_keys.kid == file_keys.load_keys(link).kid
        path.chmod(0o640)
        with pytest.raises(KeyUnavailable, match="mode 0640"):
            file_keys.load_keys(link)

    def test_missing(self, home: Path) -> None:
        """The error says how to get one."""
        with pytest.raises(KeyUnavailable, match="otpseal keys generate"):
            file_keys.load_keys(home / "student_private.pem")
        with pytest.raises(KeyUnavailable, match="no public key at"):
            file_keys.load_public_key(home / "student_public.pem")

    def test_unreadable(self, tmp_path: Path) -> None:
        """A directory under the name is an error of ours."""
        for load in (file_keys.load_keys, file_keys.load_public_key):
            with pytest.raises(KeyUnavailable, match="Is a directory"):
                load(tmp_path)

    def test_bad_keys_are_refused_by_name(self, path: Path) -> None:
        """The error names the file; damage, size and kind are told apart."""
        pem = path.read_bytes()
        for content, told in (
            (b"", "not a valid RSA private key"),
            (pem[: len(pem) // 2], "not a valid RSA private key"),
            (pem.replace(b"MII", b"MIJ", 1), "not a valid RSA private key"),
            (keypolicy.private_pem(generate_private_key(2048)), "2048 bits"),
            (pem + b"\n" * 20_000, "too large"),
        ):
            path.write_bytes(content)
            with pytest.raises(KeyRefused, match=f"{path}: .*{told}"):
                file_keys.load_keys(path)

    def test_bad_public_keys_are_refused_by_name(self, path: Path) -> None:
        """As for private ones."""
        with pytest.raises(KeyRefused, match=f"{path}: this is not a public key"):
            file_keys.load_public_key(path)
