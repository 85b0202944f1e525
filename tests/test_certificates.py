"""`otpseal.certificates` and `certificate_profile`: what a pinned CA vouches for.

OpenSSL is the outside judge of what we issue; and it issues what we judge.
"""

import datetime as dt
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from openssl_cli import openssl

from otpseal import certificates, trust
from otpseal.adapters.file_keys import RsaKeys
from otpseal.certificate_profile import (
    MAX_CERTIFICATE_BYTES,
    SEED_RECEIVING,
    SEED_SIGNING,
    authority_uri,
    named_authority,
    subscriber_uri,
    verify,
)
from otpseal.certificates import CaKey, Issuer, der, make_ca, pem
from otpseal.errors import KeyRefused
from otpseal.trust import Pinned

NOW = 1_800_000_000.0
DAY = 86_400
CA_KEY = ec.generate_private_key(ec.SECP256R1())
BELOW_KEY = ec.generate_private_key(ec.SECP256R1())
SIGNING = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key()
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CA = make_ca("test CA", CA_KEY, now=NOW)
ISSUER = Issuer(CA, CA_KEY)
URI = authority_uri("uni")


@dataclass(frozen=True)
class Plan:
    """A certificate of any kind, good or bad; what is given is a signer's, and good."""

    key: Any = field(default_factory=lambda: SIGNING)
    issuer_key: Any = field(default_factory=lambda: CA_KEY)
    issuer: str = "test CA"
    subject: str = "uni"
    names: tuple[x509.GeneralName, ...] = (URI,)
    purposes: tuple[x509.ObjectIdentifier, ...] = (SEED_SIGNING,)
    days: tuple[float, float] = (-1, 1)
    is_ca: bool = False
    path_length: int | None = None
    signs: bool = True
    signs_crls: bool = False
    has_usage: bool = True
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()

    def made(self) -> x509.Certificate:
        """Make it."""
        at = dt.datetime.fromtimestamp(NOW, dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(self.subject))
            .issuer_name(_name(self.issuer))
            .public_key(self.key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at + dt.timedelta(days=self.days[0]))
            .not_valid_after(at + dt.timedelta(days=self.days[1]))
        )
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.issuer_key.public_key()
        )
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(self.is_ca, self.path_length), True),
            (x509.SubjectKeyIdentifier.from_public_key(self.key), False),
            (above, False),
            *self.more,
        ]
        if self.has_usage:
            usage = certificates.key_usage(
                digital_signature=self.signs,
                key_cert_sign=self.is_ca,
                crl_sign=self.signs_crls,
                key_encipherment=not self.signs,
            )
            extensions.append((usage, True))
        if self.names:
            extensions.append((x509.SubjectAlternativeName(self.names), False))
        if self.purposes:
            extensions.append((x509.ExtendedKeyUsage(self.purposes), False))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        is_edwards = isinstance(self.issuer_key, Ed25519PrivateKey)
        return builder.sign(self.issuer_key, None if is_edwards else hashes.SHA256())


GOOD = Plan()
BELOW = Plan(
    key=BELOW_KEY.public_key(), subject="below", is_ca=True, names=(), purposes=()
)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pinned(*cas: tuple[str, x509.Certificate], now: float = NOW) -> Pinned:
    """Return authorities that are pinned by their CAs."""
    return Pinned([trust.pin(name, "", pem(ca), now=NOW) for name, ca in cas], now)


def found(
    *chain: x509.Certificate,
    ca: x509.Certificate = CA,
    name: str = "uni",
    algorithm: str = "EdDSA",
    now: float = NOW,
) -> object:
    """Return what a pinned authority's chain leads to."""
    book = pinned((name, ca), now=now)
    ders = [der(certificate) for certificate in chain]
    return book.find(kid=None, algorithm=algorithm, chain=ders)


def open_ca(**changes: object) -> x509.Certificate:
    """Return a CA below which there may be another."""
    return replace(
        BELOW, key=CA_KEY.public_key(), subject="test CA", path_length=1, **changes
    ).made()


# What we issue, we believe; and so does OpenSSL.


@pytest.mark.parametrize("ca_kind", ["P-256", "RSA"])
@pytest.mark.parametrize("kind", ["Ed25519", "RSA"])
def test_a_signing_certificate_is_vouched_for(
    service_keys: RsaKeys, other_keys: RsaKeys, ca_kind: str, kind: str
) -> None:
    """By a CA of either kind, for a key of either kind."""
    ca_key: CaKey = CA_KEY if ca_kind == "P-256" else other_keys._private_key
    key: Any = SIGNING if kind == "Ed25519" else service_keys.public_key
    ca = make_ca("CA", ca_key, now=NOW)
    made = Issuer(ca, ca_key).issue_signing("uni", key, now=NOW)

    algorithm = "EdDSA" if kind == "Ed25519" else "PS256"
    assert ("uni", key) == found(made, ca=ca, algorithm=algorithm)
    assert found(made, ca=ca, algorithm="none") is None


@pytest.mark.parametrize("kind", ["signing", "subscriber"])
def test_openssl_verifies_what_we_issue(
    tmp_path: Path, service_keys: RsaKeys, kind: str
) -> None:
    """`openssl verify -x509_strict`; and it prints the purpose and the name."""
    if kind == "signing":
        made = ISSUER.issue_signing("uni", SIGNING, now=NOW)
        purpose, uri = SEED_SIGNING, "otpseal:authority:uni"
    else:
        made = ISSUER.issue_subscriber("shop", service_keys.public_key, now=NOW)
        purpose, uri = SEED_RECEIVING, "otpseal:subscriber:shop"
    (tmp_path / "ca.pem").write_bytes(pem(CA))
    (tmp_path / "made.pem").write_bytes(pem(made))

    told = openssl(
        *("verify", "-x509_strict", "-attime", str(int(NOW))),
        *("-CAfile", tmp_path / "ca.pem", tmp_path / "made.pem"),
    )
    text = openssl("x509", "-noout", "-text", "-in", tmp_path / "made.pem").decode()

    assert told.endswith(b": OK\n")
    assert f"URI:{uri}\n" in text
    assert purpose.dotted_string in text
    assert "CA:FALSE" in text


def test_a_subscribers_certificate_is_for_receiving(service_keys: RsaKeys) -> None:
    """It is vouched for as that, and signs no seeds."""
    key = service_keys.public_key
    made = der(ISSUER.issue_subscriber("shop", key, now=NOW))

    def judged(purpose: x509.ObjectIdentifier, name: x509.GeneralName) -> object:
        return verify(CA, [made], purpose=purpose, name=name, now=NOW)

    assert key == judged(SEED_RECEIVING, subscriber_uri("shop"))
    assert judged(SEED_RECEIVING, subscriber_uri("other")) is None
    assert judged(SEED_SIGNING, subscriber_uri("shop")) is None
    assert judged(SEED_RECEIVING, authority_uri("shop")) is None


def test_no_certificate_outlives_its_ca() -> None:
    """Whoever checks the CA's end first would refuse it anyway."""
    ca = make_ca("CA", CA_KEY, now=NOW, days=10)

    made = Issuer(ca, CA_KEY).issue_signing("uni", SIGNING, now=NOW, days=365)

    assert ca.not_valid_after_utc == made.not_valid_after_utc
    with pytest.raises(KeyRefused, match="expired"):
        Issuer(ca, CA_KEY).issue_signing("uni", SIGNING, now=NOW + 10 * DAY)


def test_serial_numbers_are_random_and_fit() -> None:
    """RFC 5280 section 4.1.2.2: positive, 20 bytes at most; from the source given."""
    for byte in (0x00, 0x7F, 0x80, 0xFF):
        issuer = replace(ISSUER, random=lambda size, byte=byte: bytes([byte]) * size)
        serial = issuer.issue_signing("uni", SIGNING, now=NOW).serial_number

        assert 20 == (serial.bit_length() + 8) // 8
    serials = {ISSUER.issue_signing("u", SIGNING, now=NOW).serial_number for _ in "123"}
    assert len(serials) == 3


def test_weak_keys_get_no_certificate() -> None:
    """Neither below a CA nor as one."""
    with pytest.raises(KeyRefused):
        ISSUER.issue_subscriber("shop", WEAK.public_key(), now=NOW)
    with pytest.raises(KeyRefused):
        ISSUER.issue_signing("uni", WEAK.public_key(), now=NOW)
    with pytest.raises(KeyRefused):
        make_ca("CA", WEAK, now=NOW)
    with pytest.raises(KeyRefused):
        make_ca("CA", ec.generate_private_key(ec.SECP384R1()), now=NOW)


# What others issue.


def test_openssl_issues_what_we_believe(tmp_path: Path) -> None:
    """A CA and a signing certificate as an administrator makes them by hand."""
    config = tmp_path / "config"
    config.write_text(
        "[req]\ndistinguished_name=dn\n[dn]\n"
        "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        "subjectKeyIdentifier=hash\n"
        "[leaf]\nbasicConstraints=critical,CA:FALSE\n"
        "keyUsage=critical,digitalSignature\n"
        f"extendedKeyUsage={SEED_SIGNING.dotted_string}\n"
        "subjectAltName=URI:otpseal:authority:uni\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    place = {name: tmp_path / name for name in ("ca.key", "ca.pem", "k", "csr", "pem")}
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    place["ca.key"].write_bytes(openssl("genpkey", *curve))
    place["k"].write_bytes(openssl("genpkey", "-algorithm", "ed25519"))
    common = ["-config", config, "-batch"]
    openssl(
        *("req", "-x509", "-new", *common, "-extensions", "ca", "-subj", "/CN=theirs"),
        *("-key", place["ca.key"], "-out", place["ca.pem"], "-days", "30"),
    )
    openssl(
        *("req", "-new", *common, "-subj", "/CN=u"),
        *("-key", place["k"], "-out", place["csr"]),
    )
    openssl(
        *("x509", "-req", "-in", place["csr"], "-out", place["pem"], "-days", "30"),
        *("-CA", place["ca.pem"], "-CAkey", place["ca.key"], "-CAcreateserial"),
        *("-extfile", config, "-extensions", "leaf"),
    )
    ca = x509.load_pem_x509_certificate(place["ca.pem"].read_bytes())
    leaf = x509.load_pem_x509_certificate(place["pem"].read_bytes())
    now = leaf.not_valid_before_utc.timestamp() + 60
    book = Pinned([trust.pin("uni", "", place["ca.pem"].read_bytes(), now=now)], now)

    told = book.find(kid=None, algorithm="EdDSA", chain=[der(leaf)])

    assert ("uni", leaf.public_key()) == told
    assert ca.subject == leaf.issuer


def test_the_good_plan_is_good() -> None:
    """What follows changes one thing of it each."""
    assert ("uni", SIGNING) == found(GOOD.made())


CHANGED: dict[str, Plan] = {
    "expired": replace(GOOD, days=(-2, -0.001)),
    "not valid yet": replace(GOOD, days=(0.001, 2)),
    "for TLS clients": replace(GOOD, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
    "for any purpose": replace(
        GOOD, purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)
    ),
    "for receiving": replace(GOOD, purposes=(SEED_RECEIVING,)),
    "for no purpose": replace(GOOD, purposes=()),
    "no name": replace(GOOD, names=()),
    "another's name": replace(GOOD, names=(authority_uri("shop"),)),
    "a longer name": replace(GOOD, names=(authority_uri("uni2"),)),
    "two names": replace(GOOD, names=(URI, authority_uri("shop"))),
    "a name of another kind": replace(GOOD, names=(x509.DNSName("uni"),)),
    "a subscriber's name": replace(GOOD, names=(subscriber_uri("uni"),)),
    "upper case": replace(
        GOOD, names=(x509.UniformResourceIdentifier("otpseal:authority:UNI"),)
    ),
    "another CA of that name": replace(GOOD, issuer_key=BELOW_KEY),
    "another CA": replace(GOOD, issuer="other CA", issuer_key=BELOW_KEY),
    "self-signed": replace(
        GOOD, issuer="uni", issuer_key=BELOW_KEY, key=BELOW_KEY.public_key()
    ),
    "a CA itself": replace(GOOD, is_ca=True),
    "signs CRLs": replace(GOOD, signs_crls=True),
    "not for signatures": replace(GOOD, signs=False),
    "no key usage": replace(GOOD, has_usage=False),
    "a weak key": replace(GOOD, key=WEAK.public_key()),
    "a key of a curve": replace(GOOD, key=BELOW_KEY.public_key()),
    "a critical extension unknown": replace(
        GOOD,
        more=(
            (
                x509.UnrecognizedExtension(
                    x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00"
                ),
                True,
            ),
        ),
    ),
}


@pytest.mark.parametrize("plan", CHANGED.values(), ids=CHANGED)
def test_what_is_not_a_signing_certificate_is_nobodys(plan: Plan) -> None:
    """By a CA that may well have issued it, for something else."""
    made = plan.made()

    assert found(made) is None
    assert found(made, algorithm="PS256") is None
    # Even if the CA travels with it.
    assert found(made, CA) is None


def test_a_curve_key_gets_no_algorithm() -> None:
    """ES256 is none of ours, whatever certificate it has."""
    made = CHANGED["a key of a curve"].made()

    assert found(made, algorithm="ES256") is None


def test_a_chain_may_have_cas_between() -> None:
    """As many as the pinned CA allows, each with the right to sign."""
    leaf = replace(GOOD, issuer="below", issuer_key=BELOW_KEY)
    below = BELOW.made()
    scoped = replace(BELOW, purposes=(SEED_SIGNING,)).made()

    assert ("uni", SIGNING) == found(leaf.made(), below, ca=open_ca())
    assert ("uni", SIGNING) == found(leaf.made(), scoped, ca=open_ca())
    # The CA that we make allows none.
    assert found(leaf.made(), below) is None
    assert found(leaf.made(), ca=open_ca()) is None


BETWEEN: dict[str, Plan] = {
    "no CA": replace(BELOW, is_ca=False),
    "expired": replace(BELOW, days=(-2, -1)),
    "for another purpose": replace(BELOW, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "of another CA": replace(BELOW, issuer_key=BELOW_KEY),
    "no key usage": replace(BELOW, has_usage=False),
}


@pytest.mark.parametrize("plan", BETWEEN.values(), ids=BETWEEN)
def test_what_stands_between_must_be_a_ca(plan: Plan) -> None:
    """A signer's certificate makes no others."""
    leaf = replace(GOOD, issuer="below", issuer_key=BELOW_KEY).made()

    assert found(leaf, plan.made(), ca=open_ca()) is None


def test_a_weak_ca_between_is_refused() -> None:
    """The verifier alone takes RSA-2048 and P-384 there."""
    for key in (WEAK, ec.generate_private_key(ec.SECP384R1())):
        between = replace(BELOW, key=key.public_key())
        leaf = replace(GOOD, issuer="below", issuer_key=key)

        assert found(leaf.made(), between.made(), ca=open_ca()) is None


def test_a_path_has_an_end() -> None:
    """Longer than its CA allows, or than we look at, and it leads nowhere."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(6)]
    root = replace(
        BELOW,
        key=keys[0].public_key(),
        issuer_key=keys[0],
        subject="0",
        issuer="0",
    )
    between = [
        replace(
            BELOW,
            key=key.public_key(),
            issuer_key=keys[n],
            subject=str(n + 1),
            issuer=str(n),
        ).made()
        for n, key in enumerate(keys[1:])
    ]

    def reached(count: int, ca: x509.Certificate) -> object:
        leaf = replace(GOOD, issuer=str(count), issuer_key=keys[count]).made()
        return found(leaf, *between[:count][::-1], ca=ca)

    assert [True, True, True, True, False, False] == [
        reached(count, root.made()) is not None for count in range(6)
    ]
    short = replace(root, path_length=1).made()
    assert [True, True, False] == [
        reached(count, short) is not None for count in range(3)
    ]


def test_a_pinned_ca_ends_too() -> None:
    """Pinned while it was valid; what it issued ends with it."""
    ca = open_ca(days=(-1, 1))
    leaf = replace(GOOD, days=(-1, 9)).made()

    assert found(leaf, ca=ca) is not None
    assert found(leaf, ca=ca, now=NOW + 2 * DAY) is None


def test_authorities_of_one_ca_stay_apart() -> None:
    """Each has its own name; the CA says which."""
    book = pinned(("uni", CA), ("shop", CA))
    leaf = [der(replace(GOOD, names=(authority_uri("shop"),)).made())]

    assert ("shop", SIGNING) == book.find(kid=None, algorithm="EdDSA", chain=leaf)


def test_an_authority_speaks_through_its_own_ca_only() -> None:
    """Another pinned CA that writes its name into a certificate is not asked."""
    other = make_ca("other CA", BELOW_KEY, now=NOW)
    book = pinned(("uni", CA), ("evil", other))
    forged = Issuer(other, BELOW_KEY).issue_signing("uni", SIGNING, now=NOW)

    assert book.find(kid=None, algorithm="EdDSA", chain=[der(forged)]) is None


# CAs when they are pinned.

NO_CA: dict[str, tuple[x509.Certificate, str]] = {
    "Ed25519": (
        replace(
            BELOW,
            key=SIGNING,
            issuer_key=Ed25519PrivateKey.from_private_bytes(b"\x01" * 32),
        ).made(),
        "Ed25519",
    ),
    "weak": (replace(BELOW, key=WEAK.public_key()).made(), "2048"),
    "P-384": (
        replace(BELOW, key=ec.generate_private_key(ec.SECP384R1()).public_key()).made(),
        "P-256",
    ),
    "a signer": (GOOD.made(), "not that of a CA"),
    "no key usage": (replace(BELOW, has_usage=False).made(), "key usage"),
    "expired": (replace(BELOW, days=(-2, -1)).made(), "expired"),
    "not valid yet": (replace(BELOW, days=(1, 2)).made(), "expired"),
}


@pytest.mark.parametrize(("certificate", "told"), NO_CA.values(), ids=NO_CA)
def test_what_is_no_ca_is_not_pinned(certificate: x509.Certificate, told: str) -> None:
    """And the message says why."""
    with pytest.raises(KeyRefused, match=told):
        trust.pin("uni", "", pem(certificate), now=NOW)


# Whatever comes.

#: The library warns, once in a process, of a serial number that is not positive;
#: whether it then parses it is nothing that we depend on.
lenient = pytest.mark.filterwarnings(
    "ignore::cryptography.utils.CryptographyDeprecationWarning"
)


def says_the_same(one: bytes, other: bytes) -> bool:
    """Tell whether two certificates say the same, and are signed the same.

    How many bits of a signature's last byte are not used is signed by nobody, and where
    those are zeros the library takes another number for the same signature.
    """
    read = [x509.load_der_x509_certificate(der) for der in (one, other)]
    said = {(found.tbs_certificate_bytes, found.signature) for found in read}
    return len(said) == 1


@lenient
def test_a_changed_bit_is_never_believed() -> None:
    """In the certificate or in the one between: None, and no other error."""
    choose = random.Random(7)
    leaf = der(replace(GOOD, issuer="below", issuer_key=BELOW_KEY).made())
    below = der(BELOW.made())
    book = pinned(("uni", open_ca()))
    assert book.find(kid=None, algorithm="EdDSA", chain=[leaf, below]) is not None

    for which, good in ((0, leaf), (1, below)):
        for _ in range(400):
            bad = bytearray(good)
            bad[choose.randrange(len(bad))] ^= 1 << choose.randrange(8)
            chain = [leaf, below]
            chain[which] = bytes(bad)

            told = book.find(kid=None, algorithm="EdDSA", chain=chain)
            assert told is None or says_the_same(good, bytes(bad))


ISSUED = der(ISSUER.issue_signing("uni", SIGNING, now=NOW))


@lenient
@given(data=st.data())
def test_a_certificate_cut_or_spliced_is_never_believed(data: st.DataObject) -> None:
    """Bytes taken out, or put in, anywhere."""
    start = data.draw(st.integers(0, len(ISSUED)))
    end = data.draw(st.integers(start, len(ISSUED)))
    put = data.draw(st.binary(max_size=8))
    bad = ISSUED[:start] + put + ISSUED[end:]

    told = pinned(("uni", CA)).find(kid=None, algorithm="EdDSA", chain=[bad])

    assert told is None or says_the_same(ISSUED, bad)
    assert told is not None or bad != ISSUED


def test_chains_are_bounded() -> None:
    """In number and size, before anything is parsed."""
    good = der(GOOD.made())
    book = pinned(("uni", CA))

    def told(chain: list[bytes]) -> object:
        return book.find(kid=None, algorithm="EdDSA", chain=chain)

    assert told([good, good]) is not None
    assert told([good] * 5) is None
    assert told([good, good + bytes(MAX_CERTIFICATE_BYTES)]) is None
    assert named_authority([]) is None
    assert named_authority([b""]) is None


def test_names_of_unknown_kinds_break_nothing() -> None:
    """A general name that the library cannot read (x400Address) is no name."""
    uri = der(GOOD.made())
    place = uri.index(b"\x86\x15otpseal:authority:uni")
    x400 = uri[:place] + b"\xa3" + uri[place + 1 :]

    assert named_authority([uri]) == "uni"
    assert named_authority([x400]) is None
    assert found(CA) is None
