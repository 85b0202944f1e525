"""PSKC beside programs of others: pskctool, xmlsec1, openssl, python-pskc.

What the command line exports is read, checked and decrypted without a line of ours;
what they write, encrypt and sign is imported. What is not installed is skipped.
"""

import base64
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pskc import PSKC
from pskc_samples import (
    SEED,
    XENC,
    XENC11,
    Parse,
    b64,
    cipher,
    container,
    fault,
    key,
    only,
    parser,
    plain,
    refusal,
)
from test_cli import Shell, told
from test_pskc_signing import dumped, signed, signer

from otpseal.adapters.file_keys import RsaKeys, public_path
from otpseal.formats.pskc import ciphers
from otpseal.formats.pskc.signing import Signers
from otpseal.secret import Secret
from otpseal.totp import hotp

needs_pskctool = pytest.mark.skipif(
    not shutil.which("pskctool"), reason="pskctool is not installed"
)
needs_xmlsec = pytest.mark.skipif(
    not shutil.which("xmlsec1"), reason="xmlsec1 is not installed"
)
needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"), reason="openssl is not installed"
)

_NAMES = {
    "p": "urn:ietf:params:xml:ns:keyprov:pskc",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "e": XENC,
}
_OAEP = [
    *("-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"),
    *("-pkeyopt", "rsa_mgf1_md:sha256"),
]
_TEMPLATE = """<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo>
<CanonicalizationMethod Algorithm="{form}"/>
<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>
<Reference URI=""><Transforms>
<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
</Transforms><DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>
<DigestValue/></Reference></SignedInfo><SignatureValue/>
<KeyInfo><X509Data/></KeyInfo></Signature></KeyContainer>"""


def run(*command: str | Path, given: bytes = b"", fails: bool = False) -> bytes:
    """Run a program; return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert fails == bool(done.returncode), done.stderr.decode()
    return done.stdout


def pskctool(*arguments: str | Path) -> str:
    """Run pskctool, which exits with 0 whatever it finds; return what it says."""
    done = subprocess.run(
        ["pskctool", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[tuple[Shell, Path]]:
    """A store with a token of each type, and its export to its own key."""
    shell = Shell(tmp_path_factory.mktemp("pskc"), service_keys)
    parameters = (
        '<Suite>HMAC-SHA256</Suite><ResponseFormat Length="8" Encoding="DECIMAL"/>'
    )
    given = container(
        key("counted", data=f"<Counter>{plain(5)}</Counter>", secret=plain(b64(SEED))),
        key(
            "timed",
            profile="urn:ietf:params:xml:ns:keyprov:pskc:totp",
            parameters=parameters,
            secret=plain(b64(bytes(range(32)))),
            inside="<Issuer>Ärger &amp; Co</Issuer><FriendlyName>a b</FriendlyName>",
            data=f"<TimeInterval>{plain(60)}</TimeInterval>"
            f"<TimeDrift>{plain(-3)}</TimeDrift>",
        ),
    )
    assert told(shell("account", "import", "-", stdin=given))[0] == 0
    file = shell.directory / "out.pskc"
    public = public_path(shell.key_file)
    assert (
        0
        == shell(
            "account", "export", file, "--to", public, "--format", "pskc"
        ).returncode
    )
    return shell, file


@pytest.fixture
def parsed(service_keys: RsaKeys) -> Parse:
    """What the service reads."""
    return parser(service_keys)


@needs_pskctool
class TestPskctoolReads:
    """libpskc, of the OATH toolkit, finds in an export what is in the store."""

    def test_valid(self, exported: tuple[Shell, Path], tmp_path: Path) -> None:
        """It follows the RFC's schema, MGF aside: libpskc has XML Encryption 1.0's.

        That schema wants every element in EncryptionMethod declared, and 1.1's are
        not. Nothing else is wrong: without MGF the file is valid.
        """
        text = exported[1].read_text("utf-8")
        bare, count = re.subn(r"\s*<xenc11:MGF [^>]*/>", "", text)
        file = tmp_path / "bare.pskc"
        file.write_text(bare, "utf-8")
        broken = tmp_path / "broken.pskc"
        broken.write_text(bare.replace('Version="1.0"', ""), "utf-8")

        said = pskctool("--validate", exported[1])
        complaints = [line for line in said.splitlines() if "error :" in line]

        assert 1 == count
        assert (1, True) == (len(complaints), "element MGF" in complaints[0])
        assert "OK" in pskctool("--validate", file)
        assert "FAIL" in pskctool("--validate", broken)

    def test_fields(self, exported: tuple[Shell, Path]) -> None:
        """Every field that is in clear means the same."""
        _, counted, timed = re.split(r"KeyPackage \d:", self.info(exported[1]))

        def fields(text: str) -> dict[str, str]:
            found = re.findall(r"^\t\t\t(.+?): (.*)$", text, re.MULTILINE)
            return dict(found)

        assert {
            "Id": "counted",
            "FriendlyName": "counted",
            "Algorithm": "urn:ietf:params:xml:ns:keyprov:pskc:hotp",
            "Key Counter": "5",
            "Algorithm Parameters Suite": "HMAC-SHA1",
            "Response Format Length": "6",
            "Response Format Encoding": "DECIMAL",
        } == {name: text for name, text in fields(counted).items() if text}
        drift = str(2**32 - 3)  # it prints a signed number as one without
        assert {
            "Id": "timed",
            "FriendlyName": "a b",
            "Issuer": "Ärger & Co",
            "Algorithm": "urn:ietf:params:xml:ns:keyprov:pskc:totp",
            "Key Time": "0",
            "Key TimeInterval": "60",
            "Key TimeDrift": drift,
            "Algorithm Parameters Suite": "HMAC-SHA256",
            "Response Format Length": "8",
            "Response Format Encoding": "DECIMAL",
        } == fields(timed)

    @staticmethod
    def info(file: Path) -> str:
        """Return what it shows of a file, in which it finds no secret."""
        said = pskctool("--info", file)
        assert "Key Secret" not in said
        return said


def test_python_pskc_reads_the_fields(exported: tuple[Shell, Path]) -> None:
    """So does python-pskc, which knows no EncryptedKey: all but the seeds."""
    keys = PSKC(str(exported[1])).keys

    assert ["counted", "timed"] == [one.id for one in keys]
    assert [(5, None), (None, -3)] == [(one.counter, one.time_drift) for one in keys]
    assert [6, 8] == [one.response_length for one in keys]
    assert "HMAC-SHA256" == keys[1].algorithm_suite


@needs_openssl
@needs_xmlsec
class TestOthersDecrypt:
    """openssl opens an export's EncryptedKey, and xmlsec1 its values."""

    def test_seeds(self, exported: tuple[Shell, Path], tmp_path: Path) -> None:
        """By RSA-OAEP (SHA-256, MGF1-SHA-256), and AES-256-GCM: the stored seeds."""
        shell, file = exported
        root = etree.parse(file).getroot()
        wrapped = root.findtext(".//e:EncryptedKey//e:CipherValue", None, _NAMES)
        opened = run(
            *("openssl", "pkeyutl", "-decrypt", "-inkey", shell.key_file, *_OAEP),
            given=base64.b64decode(wrapped),
        )
        content_key = tmp_path / "key"
        content_key.write_bytes(opened)

        seeds = []
        for value in root.findall(".//p:EncryptedValue", _NAMES):
            value.tag = f"{{{XENC}}}EncryptedData"  # as xmlsec1 calls this type
            one = tmp_path / "value.xml"
            one.write_bytes(etree.tostring(value, with_tail=False))
            seeds.append(run("xmlsec1", "--decrypt", "--aeskey", content_key, one))

        assert 32 == len(opened)
        assert [SEED, bytes(range(32))] == seeds
        content_key.write_bytes(bytes(32))
        run("xmlsec1", "--decrypt", "--aeskey", content_key, one, fails=True)


@needs_openssl
class TestOthersEncrypt:
    """What is encrypted without a line of ours is imported."""

    @needs_xmlsec
    def test_gcm(self, exported: tuple[Shell, Path], tmp_path: Path) -> None:
        """A value by xmlsec1 under AES-256-GCM, its key by openssl under RSA-OAEP."""
        shell, _ = exported
        content_key, seed = tmp_path / "key", tmp_path / "seed"
        content_key.write_bytes(bytes(range(32)))
        seed.write_bytes(b"by xmlsec1, 20 bytes")
        template = tmp_path / "template.xml"
        method = f'<EncryptionMethod Algorithm="{XENC11}aes256-gcm"/>'
        template.write_text(
            f'<EncryptedData xmlns="{XENC}">{method}'
            "<CipherData><CipherValue/></CipherData></EncryptedData>"
        )
        made = run(
            *("xmlsec1", "--encrypt", "--aeskey", content_key),
            *("--binary-data", seed, template),
        )
        value = etree.fromstring(made)
        value.tag = "{urn:ietf:params:xml:ns:keyprov:pskc}EncryptedValue"
        wrapped = self.wrapped(shell, content_key.read_bytes())

        text = container(
            key("by-xmlsec1", secret=etree.tostring(value).decode()),
            head=f"<EncryptionKey>{wrapped}</EncryptionKey>",
        )

        done = shell("account", "import", "-", stdin=text)
        assert told(done) == (0, "line 1: by-xmlsec1: new\n1 accounts imported\n", "")
        code = hotp(seed.read_bytes(), 0)
        assert 0 == shell("verify", code, "--account", "by-xmlsec1").returncode

    def test_cbc(self, exported: tuple[Shell, Path], parsed: Parse) -> None:
        """AES-256-CBC and HMAC-SHA-256, all by openssl; a false ValueMAC is refused."""
        shell, _ = exported
        content_key, mac_key = bytes(range(32)), bytes(range(32, 64))
        seed = b"by openssl, 20 bytes"
        method = f'<xenc:EncryptionMethod Algorithm="{XENC}aes256-cbc"/>'

        def encrypted(message: bytes, iv: bytes) -> bytes:
            command = ("openssl", "enc", "-aes-256-cbc", "-K", content_key.hex())
            return iv + run(*command, "-iv", iv.hex(), given=message)

        sealed = encrypted(seed, bytes(16))
        mac = run(
            *("openssl", "dgst", "-sha256", "-mac", "HMAC", "-binary"),
            *("-macopt", f"hexkey:{mac_key.hex()}"),
            given=sealed,
        )
        inner = cipher(method, encrypted(mac_key, b"\1" * 16))
        head = (
            f"<EncryptionKey>{self.wrapped(shell, content_key)}</EncryptionKey>"
            f'<MACMethod Algorithm="{ciphers.MACS[1]}"><MACKey>{inner}</MACKey>'
            "</MACMethod>"
        )

        def with_mac(mac: bytes) -> str:
            value = f"<EncryptedValue>{cipher(method, sealed)}</EncryptedValue>"
            secret = f"{value}<ValueMAC>{b64(mac)}</ValueMAC>"
            return container(key("by-openssl", secret=secret), head=head)

        assert "ValueMAC does not match" in fault(parsed(with_mac(mac[::-1])))
        assert seed == only(parsed(with_mac(mac))).seed.reveal()

    def test_passphrase(self, parsed: Parse) -> None:
        """PBKDF2 by openssl, AES-128-CBC and HMAC-SHA-1, as in section 6.2."""
        salt, seed = bytes(range(8)), b"by PBKDF2,  20 bytes"
        derived = run(
            *("openssl", "kdf", "-keylen", "16", "-binary", "-kdfopt", "digest:SHA1"),
            *("-kdfopt", "pass:open sesame", "-kdfopt", f"hexsalt:{salt.hex()}"),
            *("-kdfopt", "iter:2000", "PBKDF2"),
        )
        method = f'<xenc:EncryptionMethod Algorithm="{XENC}aes128-cbc"/>'
        command = ("openssl", "enc", "-aes-128-cbc", "-K", derived.hex())
        sealed = bytes(16) + run(*command, "-iv", bytes(16).hex(), given=seed)
        mac = run(
            *("openssl", "dgst", "-sha1", "-mac", "HMAC", "-binary"),
            *("-macopt", f"hexkey:{derived.hex()}"),
            given=sealed,
        )
        schemas = "http://www.rsasecurity.com/rsalabs/pkcs/schemas"
        pkcs5 = f"{schemas}/pkcs-5v2-0#"
        head = (
            "<EncryptionKey><xenc11:DerivedKey><xenc11:KeyDerivationMethod"
            f' Algorithm="{schemas}/pkcs-5#pbkdf2">'
            f'<p5:PBKDF2-params xmlns:p5="{pkcs5}">'
            f"<Salt xmlns=''><Specified>{b64(salt)}</Specified></Salt>"
            "<IterationCount xmlns=''>2000</IterationCount>"
            "<KeyLength xmlns=''>16</KeyLength></p5:PBKDF2-params>"
            "</xenc11:KeyDerivationMethod></xenc11:DerivedKey></EncryptionKey>"
            f'<MACMethod Algorithm="{ciphers.MACS[0]}"/>'
        )
        value = f"<EncryptedValue>{cipher(method, sealed)}</EncryptedValue>"
        secret = f"{value}<ValueMAC>{b64(mac)}</ValueMAC>"
        text = container(key("by-pbkdf2", secret=secret), head=head)

        entry = only(parsed(text, passphrase=Secret(b"open sesame")))
        assert seed == entry.seed.reveal()

    @staticmethod
    def wrapped(shell: Shell, content_key: bytes) -> str:
        """Return a key under the service's, by openssl."""
        sealed = run(
            *("openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey"),
            *(public_path(shell.key_file), *_OAEP),
            given=content_key,
        )
        method = (
            f'<xenc:EncryptionMethod Algorithm="{ciphers.OAEP}">'
            f'<ds:DigestMethod Algorithm="{XENC}sha256"/>'
            f'<xenc11:MGF Algorithm="{XENC11}mgf1sha256"/></xenc:EncryptionMethod>'
        )
        return f"<xenc:EncryptedKey>{cipher(method, sealed)}</xenc:EncryptedKey>"


@dataclass(frozen=True)
class Maker:
    """Key and certificate of a maker, by openssl."""

    key: Path
    certificate: Path

    @property
    def signers(self) -> Signers:
        """Believe this one."""
        return Signers.of_pem(pinned=self.certificate.read_bytes(), authorities=None)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """A maker with a self-signed certificate."""
    directory = tmp_path_factory.mktemp("maker")
    found = Maker(directory / "key.pem", directory / "certificate.pem")
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-keyout", found.key, "-out", found.certificate, "-subj", "/CN=maker"),
    )
    return found


@needs_openssl
class TestOthersSign:
    """What xmlsec1 signs is verified, and by the same certificate alone."""

    @needs_xmlsec
    @pytest.mark.parametrize(
        "form",
        [
            "http://www.w3.org/2001/10/xml-exc-c14n#",
            "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
            "http://www.w3.org/2006/12/xml-c14n11",
        ],
    )
    def test_xmlsec(
        self,
        parsed: Parse,
        maker: Maker,
        tmp_path: Path,
        form: str,
    ) -> None:
        """By RSA-SHA-256 in any canonical form; pskctool and xmlsec1 agree with us.

        The signature has its namespace by default, which libxml2's inclusive form of
        a part gets wrong: once these were refused.
        """
        template, file = tmp_path / "template.xml", tmp_path / "signed.pskc"
        template.write_text(
            container().replace("</KeyContainer>", _TEMPLATE.format(form=form))
        )
        pair = f"{maker.key},{maker.certificate}"
        run("xmlsec1", "--sign", "--privkey-pem", pair, "--output", file, template)
        altered = tmp_path / "altered.pskc"
        altered.write_text(file.read_text().replace(b64(SEED), b64(b"x" * 20)))
        given: dict[str, Any] = {"signers": maker.signers, "now": time.time()}

        assert SEED == only(parsed(file.read_bytes(), **given)).seed.reveal()
        assert "not by the" in refusal(parsed, altered.read_bytes(), **given)
        verify = ("xmlsec1", "--verify", "--pubkey-cert-pem", maker.certificate)
        run(*verify, file)
        run(*verify, altered, fails=True)
        if shutil.which("pskctool"):
            option = ("--verify", "--verify-crt", maker.certificate)
            assert "OK" in pskctool(*option, file)
            assert "FAIL" in pskctool(*option, altered)

    @needs_pskctool
    def test_pskctool(self, parsed: Parse, maker: Maker, tmp_path: Path) -> None:
        """By SHA-1 alone, with pskctool: refused, and said why; unsigned it is read."""
        plainly = tmp_path / "plain.pskc"
        plainly.write_text(container())
        command = ("--sign", "--sign-key", maker.key, "--sign-crt", maker.certificate)
        text = run("pskctool", *command, plainly).decode()
        reason = refusal(parsed, text, signers=maker.signers, now=time.time())
        cut = re.sub(r"<Signature .*</Signature>", "", text, flags=re.DOTALL)

        assert "rsa-sha1" in text
        assert "has to be RSA or ECDSA with SHA-256" in reason
        assert SEED == only(parsed(cut)).seed.reveal()


@needs_xmlsec
def test_xmlsec_verifies_what_our_tests_sign(tmp_path: Path) -> None:
    """The samples of the other tests are signed as others understand it."""
    by = signer("Maker", days=(-2000, 2000))
    root: Any = signed(container(), by)
    file, certificate = tmp_path / "signed.xml", tmp_path / "certificate.pem"
    file.write_bytes(dumped(root))
    certificate.write_bytes(by.pem)

    run("xmlsec1", "--verify", "--pubkey-cert-pem", certificate, file)
