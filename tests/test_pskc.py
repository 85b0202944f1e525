"""PSKC (RFC 6030): what factories write is read, and what is written is read back."""

import base64
import datetime as dt
import re
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from formats_samples import entries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pskc import PSKC
from pskc_samples import (
    FIGURE_6,
    FIGURE_7,
    HOTP,
    NOW,
    OAEP_METHOD,
    PASSPHRASE,
    PRESHARED,
    SEED,
    TOTP,
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
    written,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import MoveRefused
from otpseal.formats.pskc import ciphers
from otpseal.formats.pskc.token import Token
from otpseal.formats.pskc.writer import ContainerWriter
from otpseal.formats.row import Entry
from otpseal.padding import oaep_encrypt
from otpseal.secret import Secret


def certificate_of(private: rsa.RSAPrivateKey) -> bytes:
    """Return a certificate of a key, in DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    then = dt.datetime.fromtimestamp(NOW, dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(then)
        .not_valid_after(then)
        .sign(private, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


FEW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def parsed(service_keys: RsaKeys) -> Parse:
    """What the service reads."""
    return parser(service_keys)


class TestVectors:
    """The RFC's own figures."""

    def test_figure_6(self, parsed: Parse) -> None:
        """A pre-shared key opens it, MAC and all."""
        entry = only(parsed(FIGURE_6, preshared=PRESHARED))

        assert (1, "12345678", "Issuer", "987654321", "hotp", 8, 0, SEED) == (
            entry.line,
            entry.account,
            entry.issuer,
            entry.label,
            entry.type,
            entry.digits,
            entry.counter,
            entry.seed.reveal(),
        )

    def test_figure_7(self, parsed: Parse) -> None:
        """A passphrase opens it; without a counter HOTP is refused, as anywhere."""
        counted = FIGURE_7.replace(
            "</pskc:Data>",
            "<pskc:Counter><pskc:PlainValue>7</pskc:PlainValue></pskc:Counter>"
            "</pskc:Data>",
        )

        entry = only(parsed(counted, passphrase=PASSPHRASE))

        assert (SEED, 7) == (entry.seed.reveal(), entry.counter)
        assert "type hotp needs its counter" == fault(
            parsed(FIGURE_7, passphrase=PASSPHRASE)
        )

    def test_figure_7_derivation(self) -> None:
        """The derived key is the one that is published beside the figure."""
        assert "651e63cd57008476af1ff6422cd02e41" == (
            ciphers.derive_pbkdf2(
                PASSPHRASE.reveal(),
                salt=base64.b64decode("Ej7/PEpyEpw="),
                rounds=1000,
                key_bytes=16,
                prf=ciphers.MACS[0],
            ).hex()
        )


class TestKeys:
    """What a key becomes."""

    def test_totp(self, parsed: Parse) -> None:
        """Every value that an account has is taken from where the RFC puts it."""
        package = key(
            profile=TOTP,
            parameters="<Suite>HMAC-SHA256</Suite>"
            '<ResponseFormat Length="8" Encoding="DECIMAL" CheckDigits="false"/>',
            data=f"<Time>{plain(0)}</Time><TimeInterval>{plain(60)}</TimeInterval>"
            f"<TimeDrift>{plain(-3)}</TimeDrift>",
            inside="<Issuer>Shop</Issuer><FriendlyName>Älice</FriendlyName>",
        )

        entry = only(parsed(container(package)))

        assert ("totp", "SHA256", 8, 60, -3, "Shop", "Älice") == (
            entry.type,
            entry.algorithm,
            entry.digits,
            entry.period,
            entry.drift,
            entry.issuer,
            entry.label,
        )

    @pytest.mark.parametrize(
        ("name", "account", "label"),
        [("tok-1", "tok-1", "tok-1"), ("MBK1", None, "MBK1"), ("a b", None, "a b")],
    )
    def test_id(
        self, parsed: Parse, name: str, account: str | None, label: str
    ) -> None:
        """An Id that is an account id is the account's, unfolded; others are labels."""
        entry = only(parsed(container(key(name))))

        assert (account, label) == (entry.account, entry.label)

    def test_several(self, parsed: Parse) -> None:
        """One bad key is a fault of its own number; the others are read."""
        rows = parsed(container(key("a"), key("b", profile="urn:x"), key("c")))

        assert [(1, True), (2, False), (3, True)] == [
            (row.line, isinstance(row, Entry)) for row in rows
        ]

    def test_no_id(self, parsed: Parse) -> None:
        """An Id is required (RFC 6030 section 4.3)."""
        assert "the key has no Id" == fault(parsed(container(key(""))))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"profile": "urn:ietf:params:xml:ns:keyprov:pskc:pin"}, "neither HOTP"),
            ({"parameters": ""}, "ResponseFormat is missing"),
            ({"parameters": '<ResponseFormat Length="6"/>'}, "not DECIMAL"),
            (
                {"parameters": '<ResponseFormat Length="9" Encoding="DECIMAL"/>'},
                "digits are 6 to 8",
            ),
            (
                {
                    "parameters": '<ResponseFormat Length="6" Encoding="DECIMAL"'
                    ' CheckDigits="true"/>'
                },
                "check digits",
            ),
            (
                {
                    "parameters": "<ChallengeFormat/>"
                    '<ResponseFormat Length="6" Encoding="DECIMAL"/>'
                },
                "AlgorithmParameters holds an element that is not known",
            ),
            (
                {
                    "parameters": "<Suite>SHA3</Suite>"
                    '<ResponseFormat Length="6" Encoding="DECIMAL"/>'
                },
                "none of SHA1, SHA256",
            ),
            ({"inside": "<KeyReference>hsm:1</KeyReference>"}, "refers to"),
            ({"inside": "<KeyProfileId>1</KeyProfileId>"}, "refers to"),
            ({"inside": "<Odd/>"}, "Key holds an element that is not known"),
            ({"inside": "<Issuer>a:b</Issuer>"}, "issuer holds a colon"),
            ({"secret": plain(b64(b"short"))}, "fewer than 16"),
            ({"secret": plain("%%%%")}, "not base64"),
            ({"secret": plain("MTIzNDU2Nzg5MDEyMzQ1Njc4OTB=")}, "not base64"),
            ({"secret": plain("MTIzNDU2Nzg5MDEyMzQ1Ng=")}, "not base64"),
            ({"secret": ""}, "PlainValue is missing"),
            ({"secret": plain(b64(SEED)) * 2}, "PlainValue is given twice"),
            (
                {"secret": f"{plain(b64(SEED))}<ValueMAC>AAAA</ValueMAC>"},
                "beside a value in clear",
            ),
            ({"data": ""}, "needs its counter"),
            ({"data": f"<Counter>{plain('007')}</Counter>"}, "not a whole number"),
            ({"data": f"<Counter>{plain(-1)}</Counter>"}, "the counter is 0"),
            ({"data": f"<Counter>{plain(0)}</Counter>" * 2}, "Counter is given twice"),
            ({"profile": TOTP, "data": f"<Time>{plain(1)}</Time>"}, "Time is not 0"),
            (
                {"profile": TOTP, "data": f"<TimeDrift>{plain(61)}</TimeDrift>"},
                "more than 60 steps",
            ),
            (
                {
                    "data": f"<Counter>{plain(0)}</Counter>"
                    f"<TimeDrift>{plain(1)}</TimeDrift>"
                },
                "TimeDrift belongs to TOTP",
            ),
            (
                {"profile": TOTP, "data": f"<TimeInterval>{plain(5)}</TimeInterval>"},
                "15 to 300",
            ),
        ],
    )
    def test_refused(self, parsed: Parse, changes: dict[str, str], reason: str) -> None:
        """What this service could not do as the factory meant it is no account."""
        assert reason in fault(parsed(container(key(**changes))))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"\0", 0),
            (b"\x0e\xab\x70", 961392),  # as python-pskc's own sample has it
            (b"\xff", 255),
            (b"\xff" * 4, 2**32 - 1),
            (bytes(7) + b"\5", 5),
            (b"\xff" * 8, "2**63"),
            (bytes(9), "more than 8 bytes"),
            *((text, "in two ways") for text in (b"1", b"1234", b"12345678", b"-1")),
            (b" 30\n", "in two ways"),
        ],
    )
    def test_encrypted_counter(
        self, parsed: Parse, text: bytes, expected: int | str
    ) -> None:
        """Up to 8 bytes, big-endian; never if they are a number's text as well."""
        data = f"<Counter>{sealed(text)}</Counter>"
        rows = parsed(container(key(secret=sealed(SEED), data=data)), **OPENED)

        if isinstance(expected, int):
            assert expected == only(rows).counter
        else:
            assert expected in fault(rows)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"\xff" * 4, -1),
            (b"\xff" * 7 + b"\xfd", -3),
            (b"\7", 7),
            # In fewer bytes than xs:int has there is no sign.
            (b"\xff", "more than 60 steps"),
            (b"\xff\xff", "more than 60 steps"),
        ],
    )
    def test_encrypted_drift(
        self, parsed: Parse, text: bytes, expected: int | str
    ) -> None:
        """Negative where the device is behind (section 4.1), in 4 or 8 bytes."""
        data = f"<TimeDrift>{sealed(text)}</TimeDrift>"
        package = key(profile=TOTP, secret=sealed(SEED), data=data)
        rows = parsed(container(package), **OPENED)

        if isinstance(expected, int):
            assert expected == only(rows).drift
        else:
            assert expected in fault(rows)

    @pytest.mark.parametrize("name", ["CheckDigits", "CheckDigit"])
    def test_check_digits(self, parsed: Parse, name: str) -> None:
        """The schema's name and that of the text (section 4.3.4) mean the same."""

        def asking(value: str) -> str:
            form = f'<ResponseFormat Length="6" Encoding="DECIMAL" {name}="{value}"/>'
            return container(key(parameters=form))

        assert only(parsed(asking("false")))
        assert "check digits" in fault(parsed(asking("true")))


OPENED: dict[str, Any] = {"preshared": PRESHARED}


def sealed(message: bytes) -> str:
    """Return a value under the pre-shared key."""
    method = f'<xenc:EncryptionMethod Algorithm="{XENC11}aes128-gcm"/>'
    return f"<EncryptedValue>{cipher(method, gcm(message))}</EncryptedValue>"


def gcm(message: bytes) -> bytes:
    """Encrypt under the pre-shared key."""
    nonce = bytes(12)
    return nonce + AESGCM(PRESHARED.reveal()).encrypt(nonce, message, None)


class TestPolicy:
    """RFC 6030 section 5: what is not understood forbids the key's use."""

    @pytest.mark.parametrize(
        "policy",
        [
            "",
            "<KeyUsage>OTP</KeyUsage>",
            "<KeyUsage>CR</KeyUsage><KeyUsage>OTP</KeyUsage>",
            "<StartDate>2025-12-31T23:59:59Z</StartDate>",
            "<StartDate>2026-01-01T00:59:59+01:00</StartDate>",
        ],
    )
    def test_kept(self, parsed: Parse, policy: str) -> None:
        """What an account keeps by itself does not stand in the way."""
        assert only(parsed(container(key(inside=f"<Policy>{policy}</Policy>"))))

    @pytest.mark.parametrize(
        ("policy", "reason"),
        [
            ("<Odd/>", "not known"),
            ('<x:Odd xmlns:x="urn:x"/>', "not known"),
            ('<KeyUsage xmlns="">OTP</KeyUsage>', "not known"),
            ('<KeyUsage odd="1">OTP</KeyUsage>', "not known"),
            ("<KeyUsage>CR</KeyUsage>", "does not allow"),
            ("<KeyUsage>OTP</KeyUsage><KeyUsage>Fly</KeyUsage>", "not known"),
            ("<KeyUsage>OTP </KeyUsage><KeyUsage>otp</KeyUsage>", "not known"),
            ("never", "not known"),
            ("<Extensions><x:Odd xmlns:x='urn:x'/></Extensions>", "not known"),
            ("<StartDate>2025-12-31T23:59:60Z</StartDate>", "calendar"),
            ("<StartDate>2025-12-31T00:00:00+24:00</StartDate>", "calendar"),
            ("<StartDate>2026-01-01T00:00:01</StartDate>", "yet to come"),
            ("<StartDate>tomorrow</StartDate>", "not written"),
            ("<StartDate>2026-02-30T00:00:00Z</StartDate>", "calendar"),
            ("<ExpiryDate>2030-01-01T00:00:00Z</ExpiryDate>", "ends its use"),
            ("<NumberOfTransactions>4</NumberOfTransactions>", "counts its uses"),
            ('<PINPolicy PINUsageMode="Local"/>', "asks for a PIN"),
        ],
    )
    def test_refused(self, parsed: Parse, policy: str, reason: str) -> None:
        """An unknown rule, or one that no account keeps, refuses the key."""
        inside = f"<Policy>{policy}</Policy>"

        assert reason in fault(parsed(container(key(inside=inside))))

    @pytest.mark.parametrize(
        ("date", "reason"),
        [
            ("<ExpiryDate>2025-12-31T23:59:59Z</ExpiryDate>", "is over"),
            ("<StartDate>2026-01-01T00:00:01Z</StartDate>", "yet to come"),
        ],
    )
    def test_device(self, parsed: Parse, date: str, reason: str) -> None:
        """A device is not brought in before its time, nor after."""
        device = f"<DeviceInfo>{date}</DeviceInfo>"

        assert reason in fault(parsed(container(key(device=device))))
        assert only(
            parsed(
                container(key(device=device)), now=NOW + (2 if "Start" in date else -2)
            )
        )


class TestOthers:
    """What python-pskc, an independent program, writes."""

    @FEW
    @given(data=st.data(), seed=st.binary(min_size=16, max_size=64))
    def test_preshared_cbc(
        self, parsed: Parse, seed: bytes, data: st.DataObject
    ) -> None:
        """AES-CBC of every size, with every MAC."""
        counter = data.draw(st.integers(0, 2**63 - 1))
        bits = data.draw(st.sampled_from([128, 192, 256]))
        mac = data.draw(st.sampled_from(["hmac-sha1", "hmac-sha256", "hmac-sha512"]))
        secret = data.draw(st.binary(min_size=bits // 8, max_size=bits // 8))
        theirs = PSKC()
        theirs.add_key(
            id="t",
            secret=seed,
            counter=counter,
            algorithm=HOTP,
            response_length=6,
            response_encoding="DECIMAL",
        )
        theirs.mac.setup(algorithm=mac)
        theirs.encryption.setup_preshared_key(
            key=secret, algorithm=f"aes{bits}-cbc", fields=["secret"]
        )

        entry = only(parsed(written(theirs), preshared=Secret(secret)))

        assert (seed, counter) == (entry.seed.reveal(), entry.counter)

    @FEW
    @given(seed=st.binary(min_size=16, max_size=64), passphrase=st.text(min_size=1))
    def test_passphrase(self, parsed: Parse, seed: bytes, passphrase: str) -> None:
        """PBKDF2 over any passphrase."""
        theirs = PSKC()
        theirs.add_key(
            id="t",
            secret=seed,
            algorithm=TOTP,
            time_interval=30,
            response_length=8,
            response_encoding="DECIMAL",
        )
        theirs.encryption.setup_pbkdf2(passphrase, iterations=3)

        entry = only(parsed(written(theirs), passphrase=Secret(passphrase.encode())))

        assert (seed, 30) == (entry.seed.reveal(), entry.period)

    @pytest.mark.parametrize("bits", [128, 192, 256])
    def test_key_wrap(self, parsed: Parse, bits: int) -> None:
        """AES key wrap authenticates by itself, and needs no MAC."""
        theirs = PSKC()
        theirs.add_key(
            id="t",
            secret=bytes(range(24)),
            counter=1,
            algorithm=HOTP,
            response_length=6,
            response_encoding="DECIMAL",
        )
        secret = bytes(range(bits // 8))
        theirs.encryption.setup_preshared_key(key=secret, algorithm=f"kw-aes{bits}")

        entry = only(parsed(written(theirs), preshared=Secret(secret)))

        assert bytes(range(24)) == entry.seed.reveal()


class TestImportKey:
    """Section 6.3: to the service's import key."""

    def test_direct(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """A value may be under RSA itself, with a label if it says which."""
        public = service_keys.public_key
        head = "<EncryptionKey><ds:KeyName>yours</ds:KeyName></EncryptionKey>"
        labelled = OAEP_METHOD.replace(
            "<xenc11:MGF",
            f"<xenc:OAEPparams>{b64(b'label')}</xenc:OAEPparams><xenc11:MGF",
        )
        sealed = oaep_encrypt(public, SEED, label=b"label")

        for value in (oaep(public, SEED), cipher(labelled, sealed)):
            package = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")
            entry = only(parsed(container(package, head=head)))
            assert SEED == entry.seed.reveal()

    def test_mac_key(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """A MACKey may be under RSA, too; then ValueMAC is compared."""
        public, mac_key = service_keys.public_key, bytes(range(32))
        sealed = oaep_encrypt(public, SEED)
        head = (
            "<EncryptionKey/>"
            f'<MACMethod Algorithm="{ciphers.MACS[1]}"><MACKey>'
            f"{oaep(public, mac_key)}</MACKey></MACMethod>"
        )

        def with_mac(mac: bytes) -> str:
            value = f"<EncryptedValue>{cipher(OAEP_METHOD, sealed)}</EncryptedValue>"
            secret = f"{value}<ValueMAC>{b64(mac)}</ValueMAC>"
            return container(key(secret=secret), head=head)

        right = ciphers.mac_of(ciphers.MACS[1], mac_key, sealed)
        assert SEED == only(parsed(with_mac(right))).seed.reveal()
        assert "ValueMAC does not match" in fault(parsed(with_mac(bytes(32))))

    def test_content_key(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """A key in an EncryptedKey opens every cipher, AES-CBC with its MAC alone.

        Where MACKey is absent the MAC's key is the same one.
        """
        theirs = PSKC()
        theirs.add_key(
            id="t",
            secret=SEED,
            counter=1,
            algorithm=HOTP,
            response_length=6,
            response_encoding="DECIMAL",
        )
        content_key = bytes(range(16))
        theirs.mac.setup(key=content_key, algorithm="hmac-sha256")
        theirs.encryption.setup_preshared_key(
            key=content_key, key_name="k", fields=["secret"]
        )
        text = re.sub(
            "<pskc:MACKey>.*?</pskc:MACKey>", "", written(theirs), flags=re.DOTALL
        )
        wrapped = oaep(service_keys.public_key, content_key)
        namespaces = (
            'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
            f' xmlns:xenc="{XENC}" xmlns:xenc11="{XENC11}"'
        )
        text = text.replace(
            "<ds:KeyName>k</ds:KeyName>",
            f"<xenc:EncryptedKey {namespaces}>{wrapped}</xenc:EncryptedKey>",
        )

        assert SEED == only(parsed(text)).seed.reveal()
        bare = re.sub("<pskc:ValueMAC>.*?</pskc:ValueMAC>", "", text)
        assert "ValueMAC is missing" in fault(parsed(bare))

    def test_certificate(
        self, parsed: Parse, service_keys: RsaKeys, other_keys: RsaKeys
    ) -> None:
        """A certificate says which key is meant, as section 6.3 asks."""
        value = oaep(service_keys.public_key, SEED)
        package = key(secret=f"<EncryptedValue>{value}</EncryptedValue>")

        def to(keys: RsaKeys) -> str:
            der = certificate_of(keys._private_key)
            return container(
                package,
                head="<EncryptionKey><ds:X509Data><ds:X509Certificate>"
                f"{b64(der)}</ds:X509Certificate></ds:X509Data></EncryptionKey>",
            )

        assert SEED == only(parsed(to(service_keys))).seed.reveal()
        assert "another key than this service's" in refusal(parsed, to(other_keys))

    @FEW
    @given(found=entries(), drift=st.integers(-60, 60))
    def test_what_is_written_is_read(
        self, parsed: Parse, service_keys: RsaKeys, found: Entry, drift: int
    ) -> None:
        """Any account goes out and comes in the same, window and state aside."""
        drift = drift if found.type == "totp" else 0
        writer = ContainerWriter(service_keys.public_key, service_keys.kid)
        try:
            package = writer.package(
                Token(
                    "shop/a",
                    found.issuer,
                    found.label,
                    found.type,
                    found.algorithm,
                    found.digits,
                    found.period,
                    found.counter,
                    drift,
                    found.seed,
                )
            )
        except MoveRefused:
            assert set("\ufffe\uffff") & set(found.issuer + found.label)
            return

        text = writer.head() + package + writer.foot()
        back = only(parsed(text, max_bytes=10**6))

        fields = ("issuer", "label", "type", "algorithm", "digits", "period", "counter")
        assert [getattr(found, name) for name in fields] == [
            getattr(back, name) for name in fields
        ]
        assert ("shop/a", drift, found.seed) == (back.account, back.drift, back.seed)

    def test_names(self, parsed: Parse, service_keys: RsaKeys) -> None:
        """Names are written as text, or refused where XML cannot write them."""
        writer = ContainerWriter(service_keys.public_key, service_keys.kid)

        def package(issuer: str, label: str) -> str:
            seed = Secret(SEED)
            return writer.package(
                Token("a", issuer, label, "hotp", "SHA1", 6, 30, 0, 0, seed)
            )

        odd = """<x>&amp;"']]>"""
        back = only(parsed(writer.head() + package(odd, odd) + writer.foot()))

        assert (odd, odd) == (back.issuer, back.label)
        for names in (("\ufffe", ""), ("", "\uffff")):
            with pytest.raises(MoveRefused, match="XML"):
                package(*names)

    def test_no_seed_in_clear(self, service_keys: RsaKeys) -> None:
        """What is written shows no seed, and no two are written alike."""
        token = Token("a", "", "", "hotp", "SHA1", 6, 30, 0, 0, Secret(SEED))

        texts = []
        for _ in range(2):
            writer = ContainerWriter(service_keys.public_key, service_keys.kid)
            texts.append(writer.head() + writer.package(token) + writer.package(token))

        assert all(b64(SEED) not in text for text in texts)
        values = [v for text in texts for v in text.split("CipherValue>")[1::2]]
        assert 6 == len(set(values))
        assert "12345678901234567890" not in repr(token)
