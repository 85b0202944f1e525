"""Real tokens: NSS's software token behind p11-kit's server, for this test run only.

The server runs as a process of its own, as a token does: it can be killed. p11-kit
reads no user's configuration as root, which is why the server is then `nobody`.
The tokens, by label:

- "otpseal tests" has the service's import key as "import key" (id 01), two keys
  called "twins" (ids 02 and 03), "weak" (2048 bits), "no decrypting" and "other key";
- "double" is the label of two tokens.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from otpseal.adapters.file_keys import RsaKeys, generate_private_key

PIN = "pin-of-the-test-token"
TOKEN = "otpseal tests"
KEY = "import key"
URI = "pkcs11:token=otpseal%20tests;object=import%20key"
ADDRESS = "P11_KIT_SERVER_ADDRESS"

#: Names of the other files of tests that this process has used tokens for.
USED: list[str] = []

_WITHIN_S = 20.0
_DEBIAN = "Debian: apt-get install libnss3 libnss3-tools libp11-kit0 p11-kit"

_DOUBLES = ("double", "double")


def expect_unused(name: str) -> None:
    """Skip the tests of a file, if this process has used tokens for another.

    p11-kit's client does not come back in a process whose children had it too.
    """
    if USED:
        pytest.skip(f"needs a process of its own: pytest {name.replace('.', '/')}.py")
    USED.append(name)


def _library(pattern: str) -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob(pattern))), None)


def softoken() -> Path | None:
    """Return NSS's software token, a PKCS#11 module that wants a configuration."""
    return _library("*/libsoftokn3.so") or _library("*/nss/libsoftokn3.so")


def client_module() -> Path | None:
    """Return p11-kit's PKCS#11 module that talks to a server."""
    return _library("*/pkcs11/p11-kit-client.so")


def why_not() -> str | None:
    """Return why no token can be had here, or None."""
    if find_spec("pkcs11") is None:
        return "python-pkcs11 is not installed (pip install otpseal[pkcs11])"
    if not (softoken() and client_module()):
        return f"NSS or p11-kit is not installed ({_DEBIAN})"
    if not (shutil.which("certutil") and shutil.which("p11-kit")):
        return f"certutil or p11-kit is not installed ({_DEBIAN})"
    return None


@dataclass(frozen=True)
class Tokens:
    """Tokens behind one server.

    Attributes:
        directory: where everything of them is.
        module: for OTPSEAL_PKCS11_MODULE.
        address: of the server, for `ADDRESS`.
        pin_file: for OTPSEAL_PKCS11_PIN_FILE.
    """

    directory: Path
    module: Path
    address: str
    pin_file: Path

    def cut_off(self) -> int:
        """Kill what serves this process's connections; the server itself stays."""
        server = int((self.directory / "server.pid").read_text())
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        return len(children)

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """Cut off, and let nobody in again until the end of the block."""
        socket, away = self.directory / "socket", self.directory / "away"
        socket.rename(away)
        try:
            self.cut_off()
            yield
        finally:
            away.rename(socket)


@pytest.fixture(scope="session")
def tokens(service_keys: RsaKeys, other_keys: RsaKeys) -> Iterator[Tokens]:
    """Tokens to use in this process and its children; skips where there are none."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="otpseal-tokens-"))
    try:
        with _serving(directory) as tokens:
            _fill(tokens, service_keys, other_keys)
            yield tokens
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def _serving(directory: Path) -> Iterator[Tokens]:
    pin_file = directory / "pin"
    pin_file.touch(0o600)
    pin_file.write_text(PIN + "\n")
    databases = [directory / name for name in ("tests", "double1", "double2")]
    for database in databases:
        database.mkdir()
        _run(_program("certutil"), "-N", "-d", f"sql:{database}", "-f", str(pin_file))
    _configure(directory, databases)
    user, group = _owner(directory)
    socket = directory / "socket"
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [_program("p11-kit"), "server", "-f", "-n", str(socket), "pkcs11:"],
            env={**os.environ, "HOME": str(directory), "XDG_CONFIG_HOME": ""},
            stdout=log,
            stderr=log,
            user=user,
            group=group,
        )
    before = os.environ.get(ADDRESS)
    try:
        _wait_for(socket, server)
        (directory / "server.pid").write_text(str(server.pid))
        address = f"unix:path={socket}"
        os.environ[ADDRESS] = address
        module = client_module()
        assert module is not None
        yield Tokens(directory, module, address, pin_file)
    finally:
        server.terminate()
        server.wait(_WITHIN_S)
        os.environ.pop(ADDRESS, None)
        if before is not None:
            os.environ[ADDRESS] = before


def _configure(directory: Path, databases: list[Path]) -> None:
    labels = (TOKEN, *_DOUBLES)
    # NSS numbers the tokens of a user from 4 on.
    described = " ".join(
        f"0x{number:x}=[configDir='sql:{database}' tokenDescription='{label}'"
        f" slotDescription='slot {number}']"
        for number, (database, label) in enumerate(
            zip(databases, labels, strict=True), start=4
        )
    )
    modules = directory / ".config" / "pkcs11" / "modules"
    modules.mkdir(parents=True)
    (modules.parent / "pkcs11.conf").write_text("user-config: only\n")
    (modules / "nss.module").write_text(
        f"module: {softoken()}\n"
        "x-init-reserved: configdir='' certPrefix='' keyPrefix='' secmod=''"
        f" flags=noCertDB,noModDB tokens=<{described}>\n"
        "critical: yes\n"
    )


def _owner(directory: Path) -> tuple[int, int] | tuple[None, None]:
    """Return who runs the server; as root, give the directory to that user."""
    if os.geteuid() != 0:
        return None, None
    nobody = pwd.getpwnam("nobody")
    for path in (directory, *directory.rglob("*")):
        if path.name != "pin":
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid, nobody.pw_gid


def _wait_for(socket: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not socket.exists():
        log = (socket.parent / "log").read_text()
        assert server.poll() is None, log
        assert time.monotonic() < deadline, log
        time.sleep(0.02)


def _fill(tokens: Tokens, service_keys: RsaKeys, other_keys: RsaKeys) -> None:
    """Put keys into the token as a vendor's tool would: in a process of its own."""
    twins = [generate_private_key(3072) for _ in range(2)]
    keys = [
        (KEY, "01", "sign,decrypt", service_keys._private_key),
        ("twins", "02", "sign,decrypt", twins[0]),
        ("twins", "03", "sign,decrypt", twins[1]),
        ("weak", "04", "sign,decrypt", generate_private_key(2048)),
        ("no decrypting", "05", "sign", twins[0]),
        ("other key", "06", "sign,decrypt", other_keys._private_key),
    ]
    lines = [f"{name};{id_};{may};{_der(key)}" for name, id_, may, key in keys]
    _run(
        sys.executable,
        *("-c", _FILL, str(tokens.module), TOKEN, str(tokens.pin_file)),
        text="\n".join(lines),
    )


def _der(key: RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).hex()


_FILL = """
import pathlib, sys
import pkcs11
from pkcs11 import Attribute, MechanismFlag
from pkcs11.util.rsa import decode_rsa_private_key

module, label, pin_file = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
pin = pathlib.Path(pin_file).read_text().strip()
session = token.open(rw=True, user_pin=pin)
for line in sys.stdin.read().splitlines():
    name, key_id, may, der = line.split(";")
    flags = 0
    for word in may.split(","):
        flags |= MechanismFlag[word.upper()]
    key = decode_rsa_private_key(bytes.fromhex(der), flags)
    session.create_object({
        **key,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.LABEL: name,
        Attribute.ID: bytes.fromhex(key_id),
    })
"""


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None
    return found


def _run(program: str, *arguments: str, text: str = "") -> None:
    ran = subprocess.run(
        [program, *arguments],
        input=text.encode(),
        capture_output=True,
        check=False,
        timeout=_WITHIN_S,
    )
    assert ran.returncode == 0, ran.stderr.decode()
