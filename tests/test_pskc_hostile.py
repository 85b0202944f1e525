"""PSKC by somebody who means harm, or meant another file: refused, and why is told."""

import base64
import re
import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pskc_samples import (
    FIGURE_6,
    FIGURE_7,
    FIGURE_8,
    HOTP,
    OAEP_METHOD,
    PASSPHRASE,
    PRESHARED,
    SEED,
    XENC,
    XENC11,
    Parse,
    b64,
    cipher,
    container,
    fault,
    key,
    oaep,
    only,
    parser,
    plain,
    refusal,
    without,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import FileRefused
from otpseal.formats.pskc import ciphers
from otpseal.formats.pskc.protection import ImportKey, Unlocking
from otpseal.formats.row import Entry, Fault
from otpseal.padding import oaep_encrypt
from otpseal.secret import Secret

GCM_METHOD = f'<xenc:EncryptionMethod Algorithm="{XENC11}aes128-gcm"/>'


@pytest.fixture
def parsed(service_keys: RsaKeys) -> Parse:
    """What the service reads."""
    return parser(service_keys)


def gcm(secret: Secret, message: bytes) -> str:
    """Return what an EncryptedValue holds, under AES-GCM."""
    nonce = b"n" * 12
    sealed = nonce + AESGCM(secret.reveal()).encrypt(nonce, message, None)
    return cipher(GCM_METHOD, sealed)


class TestXml:
    """XML can do more than PSKC needs."""

    def test_billion_laughs(self, parsed: Parse) -> None:
        """Entities are not expanded: a document type is refused."""
        entities = '<!ENTITY e0 "ha">' + "".join(
            f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)
        )
        bomb = f"<!DOCTYPE x [{entities}]>" + container(key(secret=plain("&e9;")))

        assert "DOCTYPE" in refusal(parsed, bomb)

    @pytest.mark.parametrize("scheme", ["file", "http"])
    def test_external_entity(self, parsed: Parse, tmp_path: Path, scheme: str) -> None:
        """No file of this machine is read, and nobody is called."""
        (tmp_path / "seed").write_text(b64(SEED))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0)
            port = listener.getsockname()[1]
            place = {
                "file": (tmp_path / "seed").as_uri(),
                "http": f"http://127.0.0.1:{port}/seed",
            }[scheme]
            for doctype in (
                f'<!DOCTYPE x [<!ENTITY e SYSTEM "{place}">]>',
                f'<!DOCTYPE x SYSTEM "{place}">',
                f'<!DOCTYPE x [<!ENTITY % e SYSTEM "{place}"> %e;]>',
            ):
                body = "&e;" if "ENTITY e" in doctype else b64(SEED)
                text = doctype + container(key(secret=plain(body)))
                assert "DOCTYPE" in refusal(parsed, text)

            with pytest.raises(BlockingIOError):
                listener.accept()

    def test_bare_doctype(self, parsed: Parse) -> None:
        """Even one that does nothing is refused."""
        assert "DOCTYPE" in refusal(parsed, "<!DOCTYPE KeyContainer>" + container())

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "<",
            "<a>",
            "&undefined;",
            container() + container(),
            container(key(secret=plain("&undefined;"))),
            "<a>" * 300 + "</a>" * 300,
        ],
    )
    def test_no_xml(self, parsed: Parse, text: str) -> None:
        """What is not well-formed, or nested too deep, is refused, not mended."""
        assert "well-formed" in refusal(parsed, text)

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
    def test_other_encodings(self, parsed: Parse, encoding: str) -> None:
        """UTF-8 is the one reading, whatever a declaration says."""
        text = f'<?xml version="1.0" encoding="{encoding}"?>' + container(
            key(inside="<Issuer>Zürich</Issuer>")
        )

        assert "well-formed" in refusal(parsed, text.encode(encoding))

    def test_size(self, parsed: Parse) -> None:
        """256 KiB, unless more is asked for."""
        large = container(*(key(f"t{n}") for n in range(1500)))
        assert 256 * 1024 < len(large)

        assert "--max-bytes" in refusal(parsed, large)
        assert 1500 == len(parsed(large, max_bytes=10**6))

    @pytest.mark.parametrize("hidden", ["<!-- -->", "<?x y?>"])
    def test_torn_text(self, parsed: Parse, hidden: str) -> None:
        """A text with something in it has two readings, and is refused."""
        package = key(data=f"<Counter><PlainValue>1{hidden}2</PlainValue></Counter>")

        assert "mixes text" in refusal(parsed, container(package))
        assert only(parsed(container(hidden, key())))

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ('Version="1.0"', 'Version="2.0"', "Version is not 1.0"),
            ('Version="1.0"', "", "Version is not 1.0"),
            ("ns:keyprov:pskc", "ns:keyprov:other", "no KeyContainer"),
            ("<KeyPackage>", "stray<KeyPackage>", "mixes text"),
            ("<KeyPackage>", "<Odd/><KeyPackage>", "not known"),
            ("<KeyPackage>", "<EncryptionKey/><EncryptionKey/><KeyPackage>", "twice"),
            ("<KeyPackage>", "<Signature/><KeyPackage>", "not known"),
            ("</Key>", "</Key><Key/>", "Key is given twice"),
        ],
    )
    def test_shape(self, parsed: Parse, old: str, new: str, reason: str) -> None:
        """Only the elements of RFC 6030, each as often as it says."""
        assert reason in refusal(parsed, container().replace(old, new, 1))

    def test_empty(self, parsed: Parse) -> None:
        """A container carries at least one KeyPackage (section 3)."""
        assert "no KeyPackage" in refusal(parsed, container("<Extensions/>"))

    def test_depth(self, parsed: Parse) -> None:
        """What is nested deeper than any container is refused, not followed."""

        def nested(depth: int) -> str:
            inner = f"{'<x>' * depth}{'</x>' * depth}"
            return container(key(), f'<Extensions><y xmlns="">{inner}</y></Extensions>')

        assert only(parsed(nested(100)))
        assert "well-formed" in refusal(parsed, nested(300))
        assert "well-formed" in refusal(parsed, nested(10**6), max_bytes=10**8)

    def test_duplicate_keys(self, parsed: Parse) -> None:
        """Of two keys with one Id neither is taken."""
        rows = parsed(container(key("a"), key("b"), key("a")))

        assert [
            Fault(1, "another key has the same Id"),
            2,
            Fault(3, rows[2].reason),
        ] == [  # type: ignore[union-attr]
            row if isinstance(row, Fault) else row.line for row in rows
        ]

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_total(self, parsed: Parse, data: st.DataObject) -> None:
        """Damage anywhere gives rows or a refusal, and nothing else."""
        whole = FIGURE_7.encode()
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 40)))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=10),
                st.sampled_from([b"<a>", b"/>", b"&lt;", b"=", b"-", b"<Salt/>"]),
            )
        )
        damaged = whole[:start] + piece + whole[end:]

        try:
            rows = parsed(damaged, passphrase=PASSPHRASE)
        except FileRefused:
            return
        assert all(isinstance(row, Entry | Fault) for row in rows)


class TestMac:
    """ValueMAC before anything is believed."""

    def test_missing(self, parsed: Parse) -> None:
        """AES-CBC without one is refused: its plaintext can be turned at will."""
        bare = without(r"<ValueMAC>.*?</ValueMAC>", FIGURE_6)

        assert "ValueMAC is missing" in fault(parsed(bare, preshared=PRESHARED))

    def test_no_method(self, parsed: Parse) -> None:
        """A ValueMAC that nothing says how to verify is refused, not skipped."""
        bare = without(r"<MACMethod.*?</MACMethod>", FIGURE_6)

        assert "no MACMethod" in fault(parsed(bare, preshared=PRESHARED))

    def test_altered(self, parsed: Parse) -> None:
        """Every bit of ciphertext, IV and MAC counts."""
        for value in (
            "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv",
            "Su+NvtQfmvfJzF6bmQiJqoLRExc=",
        ):
            whole = bytearray(base64.b64decode(value))
            for place in range(len(whole)):
                whole[place] ^= 1
                text = FIGURE_6.replace(value, b64(bytes(whole)))
                whole[place] ^= 1
                assert "ValueMAC does not match" in fault(
                    parsed(text, preshared=PRESHARED)
                )

    def test_over_plaintext(self, parsed: Parse) -> None:
        """A MAC over the plaintext, as in drafts, asks to decrypt first: refused."""
        mac_key = bytes.fromhex("1122334455667788990011223344556677889900")
        drafted = ciphers.mac_of(ciphers.MACS[0], mac_key, SEED)
        text = FIGURE_6.replace("Su+NvtQfmvfJzF6bmQiJqoLRExc=", b64(drafted))

        assert "ValueMAC does not match" in fault(parsed(text, preshared=PRESHARED))

    def test_what_is_open(self, parsed: Parse) -> None:
        """A limit of RFC 6030, shown: nothing authenticates a MACKey under AES-CBC.

        Whoever knows a seed knows what its blocks decrypt to before the IV is added,
        and makes of them a MACKey that he knows, and then a seed. So docs/pskc.md and
        the threat model say to ask for a signature.
        """
        value = "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv"
        mac_key = "ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX"
        mac = "Su+NvtQfmvfJzF6bmQiJqoLRExc="
        whole = base64.b64decode(value)

        def forged(first: bytes) -> bytes:
            parts = zip(whole[:16], SEED[:16], first, strict=True)
            return bytes(a ^ b ^ c for a, b, c in parts) + whole[16:]

        secret, made = forged(b"E" * 16), bytes(16) + SEED[16:]
        text = (
            FIGURE_6.replace(mac_key, b64(forged(bytes(16))))
            .replace(value, b64(secret))
            .replace(mac, b64(ciphers.mac_of(ciphers.MACS[0], made, secret)))
        )

        entry = only(parsed(text, preshared=PRESHARED))
        assert b"E" * 16 + SEED[16:] == entry.seed.reveal()

    def test_short_key(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """A key that can be guessed is none."""
        inner = oaep(service_keys.public_key, b"short")
        head = (
            f'<EncryptionKey/><MACMethod Algorithm="{ciphers.MACS[0]}"><MACKey>{inner}'
            "</MACKey></MACMethod>"
        )

        assert "fewer than 16" in refusal(parsed, container(head=head))

    @pytest.mark.parametrize("name", ["hmac-md5", "hmac-ripemd160", "none"])
    def test_unknown(self, parsed: Parse, name: str) -> None:
        """Another MAC is refused."""
        text = FIGURE_6.replace("xmldsig#hmac-sha1", f"xmldsig#{name}")

        assert "MACMethod is none" in refusal(parsed, text, preshared=PRESHARED)

    def test_wrong_key(self, parsed: Parse) -> None:
        """Another pre-shared key opens nothing."""
        wrong = Secret(bytes(16))

        assert "does not open" in refusal(parsed, FIGURE_6, preshared=wrong)

    def test_wrong_passphrase(self, parsed: Parse) -> None:
        """Another passphrase opens nothing."""
        wrong = Secret(b"qwertz")

        assert "does not open" in refusal(parsed, FIGURE_7, passphrase=wrong)


class TestPbkdf2:
    """Its parameters come from the file."""

    @pytest.mark.parametrize("rounds", ["0", "1000001", "4294967295", "-1", "1e9", ""])
    def test_rounds(self, parsed: Parse, rounds: str) -> None:
        """None, and more than a million, are refused before the first."""
        text = FIGURE_7.replace("Count>1000<", f"Count>{rounds}<")

        told = refusal(parsed, text, passphrase=PASSPHRASE)
        assert re.search("more than 1,000,000|not a number", told)

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("Length>16<", "Length>20<", "salt or key"),
            ("Length>16<", "Length>99999999999<", "salt or key"),
            ("Ej7/PEpyEpw=", "AAAA", "salt or key"),
            ("<PRF/>", '<PRF Algorithm="urn:x#hmac-md5"/>', "something else than HMAC"),
            ("5v2-0#pbkdf2", "5v2-0#pbkdf1", "something else than PBKDF2"),
            ("<PRF/>", "<PRF/><IterationCount>1</IterationCount>", "twice"),
            ("<PRF/>", "<PRF/><Odd/>", "not known"),
            ("<KeyLength>16</KeyLength>", "", "KeyLength is missing"),
        ],
    )
    def test_parameters(self, parsed: Parse, old: str, new: str, reason: str) -> None:
        """Sizes and functions that nobody needs are refused."""
        assert old in FIGURE_7
        text = FIGURE_7.replace(old, new)

        assert reason in refusal(parsed, text, passphrase=PASSPHRASE)

    @pytest.mark.parametrize(
        "uri",
        [
            "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2",
            "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5#pbkdf2",
            "http://www.w3.org/2009/xmlenc11#pbkdf2",
        ],
    )
    def test_names(self, parsed: Parse, uri: str) -> None:
        """It has three names: of RFC 6030's figure, its text, and XML Encryption."""
        own = "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2"
        assert own in FIGURE_7
        text = FIGURE_7.replace(own, uri).replace(
            "</pskc:Secret>",
            "</pskc:Secret><pskc:Counter><pskc:PlainValue>1</pskc:PlainValue>"
            "</pskc:Counter>",
        )

        assert SEED == only(parsed(text, passphrase=PASSPHRASE)).seed.reveal()


class TestAsymmetric:
    """Exactly one form of RSA is accepted."""

    def test_figure_8(self, parsed: Parse) -> None:
        """RFC 6030's own example uses PKCS#1 v1.5, and is refused for that."""
        assert "PKCS#1 v1.5 is refused" in fault(parsed(FIGURE_8))

    @pytest.mark.parametrize("name", ["rsa-1_5", "rsa_1_5"])
    def test_pkcs1(self, parsed: Parse, service_keys: RsaKeys, name: str) -> None:
        """Also where it would open."""
        sealed = service_keys.public_key.encrypt(SEED, padding.PKCS1v15())
        method = f'<xenc:EncryptionMethod Algorithm="{XENC}{name}"/>'
        package = key(
            secret=f"<EncryptedValue>{cipher(method, sealed)}</EncryptedValue>"
        )
        wrapped = (
            "<EncryptionKey><xenc:EncryptedKey>"
            f"{cipher(method, sealed)}</xenc:EncryptedKey></EncryptionKey>"
        )

        direct = fault(parsed(container(package, head="<EncryptionKey/>")))
        assert "PKCS#1 v1.5 is refused" in direct
        assert "v1.5 is refused" in refusal(parsed, container(head=wrapped))

    @pytest.mark.parametrize(
        ("method", "reason"),
        [
            (f'<xenc:EncryptionMethod Algorithm="{XENC}rsa-oaep-mgf1p"/>', "SHA-1"),
            (f'<xenc:EncryptionMethod Algorithm="{XENC11}rsa-oaep"/>', "digest"),
            (OAEP_METHOD.replace("#sha256", "#sha512"), "digest"),
            (OAEP_METHOD.replace("mgf1sha256", "mgf1sha1"), "mask"),
            (re.sub("<xenc11:MGF.*?/>", "", OAEP_METHOD), "mask"),
            (OAEP_METHOD.replace("</", "<Odd/></"), "not known"),
            (OAEP_METHOD.replace(ciphers.OAEP, "urn:x"), "none of those"),
            (OAEP_METHOD.replace(ciphers.OAEP, f"{XENC}tripledes-cbc"), "none of"),
        ],
    )
    def test_other_oaep(
        self, parsed: Parse, service_keys: RsaKeys, method: str, reason: str
    ) -> None:
        """Other digests and masks are refused by name, not tried."""
        value = oaep(service_keys.public_key, SEED, method)
        package = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")

        assert reason in fault(parsed(container(package, head="<EncryptionKey/>")))

    def test_sha1(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """What says SHA-256 and is SHA-1 does not open."""
        sealed = oaep_encrypt(
            service_keys.public_key,
            SEED,
            algorithm=hashes.SHA1(),
        )
        value = cipher(OAEP_METHOD, sealed)
        package = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")

        assert "does not open" in fault(
            parsed(container(package, head="<EncryptionKey/>"))
        )

    def test_labels_of_ours(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """What was sealed for another purpose does not come in as a seed."""
        label = b"otpseal storage key v1"
        method = OAEP_METHOD.replace(
            "<xenc11:MGF",
            f"<xenc:OAEPparams>{b64(label)}</xenc:OAEPparams><xenc11:MGF",
        )
        sealed = oaep_encrypt(service_keys.public_key, SEED, label=label)
        package = key(
            secret=f"<EncryptedValue>{cipher(method, sealed)}</EncryptedValue>"
        )

        assert "kept for something else" in fault(
            parsed(container(package, head="<EncryptionKey/>"))
        )

    def test_another_key(
        self, parsed: Parse, service_keys: RsaKeys, other_keys: RsaKeys
    ) -> None:
        """What is for another service says so."""

        def to(keys: RsaKeys, name: str) -> str:
            info = f"<ds:KeyInfo><ds:KeyName>{name}</ds:KeyName></ds:KeyInfo>"
            inner = oaep(keys.public_key, bytes(16)).replace(
                "<xenc:CipherData>", f"{info}<xenc:CipherData>"
            )
            return container(
                head="<EncryptionKey><xenc:EncryptedKey>"
                f"{inner}</xenc:EncryptedKey></EncryptionKey>"
            )

        assert "another key than this service's" in refusal(
            parsed, to(other_keys, other_keys.kid)
        )
        assert "does not open" in refusal(parsed, to(other_keys, service_keys.kid))

    def test_one_text(
        self, parsed: Parse, service_keys: RsaKeys, other_keys: RsaKeys
    ) -> None:
        """However a ciphertext fails to open, the same is said: no oracle by text."""
        public, message = service_keys.public_key, bytes(16)
        size = public.key_size // 8
        right = oaep_encrypt(public, message)
        wrong = (
            public.encrypt(message, padding.PKCS1v15()),
            oaep_encrypt(public, message, algorithm=hashes.SHA1()),
            oaep_encrypt(public, message, label=b"another"),
            oaep_encrypt(other_keys.public_key, message),
            bytes([right[0], right[1] ^ 1]) + right[2:],
            bytes(size),
            b"\xff" * size,
            right[:-1],
            right + b"\0",
            b"x",
        )

        def told(sealed: bytes) -> tuple[str, str]:
            value = cipher(OAEP_METHOD, sealed)
            direct = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")
            inner = f"<xenc:EncryptedKey>{value}</xenc:EncryptedKey>"
            return (
                fault(parsed(container(direct, head="<EncryptionKey/>"))),
                refusal(
                    parsed, container(head=f"<EncryptionKey>{inner}</EncryptionKey>")
                ),
            )

        assert 1 == len({told(sealed) for sealed in wrong})
        assert "does not open" in told(wrong[0])[0]

    def test_content_key_size(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """A content key of no cipher's size is refused."""
        inner = oaep(service_keys.public_key, bytes(20))
        head = (
            "<EncryptionKey><xenc:EncryptedKey>"
            f"{inner}</xenc:EncryptedKey></EncryptionKey>"
        )

        assert "16, 24 or 32" in refusal(parsed, container(head=head))

    def test_reference(self, parsed: Parse) -> None:
        """A ciphertext that lies elsewhere is not fetched."""
        value = OAEP_METHOD + (
            "<xenc:CipherData>"
            '<xenc:CipherReference URI="http://127.0.0.1:9/"/></xenc:CipherData>'
        )
        package = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")

        assert "CipherData holds" in fault(
            parsed(container(package, head="<EncryptionKey/>"))
        )


class TestOneWay:
    """What could come from anyone does not pass for the owner of the shared key."""

    def test_clear_among_encrypted(self, parsed: Parse) -> None:
        """A secret in clear, put into an encrypted container, is refused."""
        planted = without(r"<EncryptedValue>.*?</ValueMAC>", FIGURE_6).replace(
            "<Secret>", f"<Secret>{plain(b64(b'x' * 20))}"
        )

        assert "in clear" in fault(parsed(planted, preshared=PRESHARED))
        bare = container()
        assert "in clear" in fault(parsed(bare, preshared=PRESHARED))
        assert "passphrase" in refusal(parsed, bare, passphrase=PASSPHRASE)

    def test_rsa_among_shared(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """A secret to the public key, which anyone has, is not by the sharer."""
        value = oaep(service_keys.public_key, b"x" * 20)
        package = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")
        wrapped = oaep(service_keys.public_key, bytes(16))
        head = (
            "<EncryptionKey><xenc:EncryptedKey>"
            f"{wrapped}</xenc:EncryptedKey></EncryptionKey>"
        )

        assert "in another way" in fault(
            parsed(container(package), preshared=PRESHARED)
        )
        assert "not encrypted by a pre-shared key" in refusal(
            parsed, container(package, head=head), preshared=PRESHARED
        )
        assert "not encrypted by a passphrase" in refusal(
            parsed, container(package, head=head), passphrase=PASSPHRASE
        )

    def test_what_is_needed_is_told(self, parsed: Parse) -> None:
        """Without the key it says which option brings it."""
        assert "--pskc-key-file" in refusal(parsed, FIGURE_6)
        assert "--pskc-passphrase-file" in refusal(parsed, FIGURE_7)
        assert "passphrase" in refusal(parsed, FIGURE_7, preshared=PRESHARED)
        secret = f"<EncryptedValue>{gcm(PRESHARED, SEED)}</EncryptedValue>"
        assert "--pskc-key-file" in fault(parsed(container(key(secret=secret))))
        value = f"<EncryptedValue>{cipher(OAEP_METHOD, bytes(512))}</EncryptedValue>"
        assert "EncryptionKey is missing" in fault(parsed(container(key(secret=value))))

    @pytest.mark.parametrize("name", ["kw-aes128", "aes192-cbc", "rsa-1_5"])
    def test_one_algorithm(self, parsed: Parse, name: str) -> None:
        """All values are under one algorithm (section 6), a MACKey's, too.

        What is known of a stream of AES-GCM makes blocks for AES-CBC.
        """
        assert '#aes128-cbc"/>' in FIGURE_6
        head, _, rest = FIGURE_6.partition("#aes128-cbc")
        mixed = f"{head}#{name}{rest}"
        good = f"<EncryptedValue>{gcm(PRESHARED, SEED)}</EncryptedValue>"
        method = f'<xenc:EncryptionMethod Algorithm="{XENC}{name}"/>'
        odd = f"<EncryptedValue>{cipher(method, bytes(32))}</EncryptedValue>"
        beside = container(key("a", secret=good), key("b", secret=odd))
        skipped = container(key(secret=good), f"<Extensions>{odd}</Extensions>")

        for text in (mixed, beside):
            assert "than one algorithm" in refusal(parsed, text, preshared=PRESHARED)
        assert SEED == only(parsed(skipped, preshared=PRESHARED)).seed.reveal()

    def test_not_two_keys(self, service_keys: RsaKeys) -> None:
        """A key or a passphrase: never whichever fits."""
        mine = ImportKey(service_keys.kid, service_keys.public_key, lambda c, _l: c)

        with pytest.raises(ValueError, match="not both"):
            Unlocking(mine, PRESHARED, PASSPHRASE)

    @pytest.mark.parametrize("size", [0, 1, 11, 12, 27, 28, 31, 32, 33, 48])
    @pytest.mark.parametrize(
        "name",
        [
            *(f"{XENC}aes{n}-cbc" for n in (128, 192)),
            *(f"{XENC}kw-aes{n}" for n in (128, 256)),
            f"{XENC11}kw-aes-128-pad",
            f"{XENC11}aes128-gcm",
        ],
    )
    def test_garbage(self, parsed: Parse, name: str, size: int) -> None:
        """Ciphertext of any size that nobody encrypted is refused in our words."""
        method = f'<xenc:EncryptionMethod Algorithm="{name}"/>'
        inner = cipher(method, bytes(size))
        head = (
            f'<MACMethod Algorithm="{ciphers.MACS[0]}"><MACKey>{inner}'
            "</MACKey></MACMethod>"
        )

        told = refusal(parsed, container(head=head), preshared=PRESHARED)
        assert re.search("does not open|another size|not base64", told)

    def test_nothing_is_repeated(self, parsed: Parse) -> None:
        """No reason shows a piece of the file."""
        canary = "CANARY-7"
        texts = (
            container(key(canary, profile=canary)),
            container(key(inside=f"<{canary}/>")),
            container(key(secret=plain(canary))),
            container(key(data=f"<Counter>{plain(canary)}</Counter>")),
            container(head=f"<{canary}/>"),
            f"<{canary}>",
            container(key(profile=HOTP, parameters=f"<Suite>{canary}</Suite>")),
        )
        for text in texts:
            try:
                told = fault(parsed(text))
            except FileRefused as error:
                told = str(error)
            assert canary not in told
