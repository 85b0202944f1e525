"""Signed containers: by whom they have to be, over all of it, or refused."""

import copy
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from pskc_samples import (
    FIGURE_6,
    NOW,
    PRESHARED,
    SEED,
    Parse,
    b64,
    container,
    key,
    only,
    parser,
    plain,
    refusal,
)
from signxml.algorithms import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureConstructionMethod,
    SignatureMethod,
)
from signxml.signer import XMLSigner

from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import ConfigurationError
from otpseal.formats.pskc.signing import Signers

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_DAY = dt.timedelta(days=1)
_THEN = dt.datetime.fromtimestamp(NOW, dt.UTC)
DS = "{http://www.w3.org/2000/09/xmldsig#}"


@dataclass(frozen=True)
class Signer:
    """A key and its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def signer(
    name: str,
    issuer: Signer | None = None,
    *,
    private: PrivateKey | None = None,
    days: tuple[int, int] = (-1, 1),
    usage: bool = True,
) -> Signer:
    """Make a certificate: a CA's own, or of a signer that a CA issues."""
    private = private or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_ca = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_THEN + days[0] * _DAY)
        .not_valid_after(_THEN + days[1] * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=usage and not is_ca,
                key_cert_sign=is_ca,
                crl_sign=is_ca,
                content_commitment=False,
                key_encipherment=not usage,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("maker.example")]),
            critical=False,
        )
    )
    if issuer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
    by = private if issuer is None else issuer.key
    return Signer(private, builder.sign(by, hashes.SHA256()))


@pytest.fixture(scope="module")
def ca() -> Signer:
    """Who issues the certificates of signers."""
    return signer("CA")


@pytest.fixture(scope="module")
def maker(ca: Signer) -> Signer:
    """A maker of tokens."""
    return signer("Maker", ca)


@pytest.fixture
def parsed(service_keys: RsaKeys) -> Parse:
    """What the service reads."""
    return parser(service_keys)


def signed(  # noqa: ANN201 - an element of lxml, which has no types
    text: str,
    by: Signer,
    *,
    reference: str | None = None,
    method: SignatureMethod | None = None,
    digest: DigestAlgorithm = DigestAlgorithm.SHA256,
):
    """Return the root of a container that is signed as a whole."""
    method = method or (
        SignatureMethod.RSA_SHA256
        if isinstance(by.key, rsa.RSAPrivateKey)
        else SignatureMethod.ECDSA_SHA256
    )
    made = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=method,
        digest_algorithm=digest,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    return made.sign(
        etree.fromstring(text.encode()),
        key=by.key,
        cert=[by.certificate],
        reference_uri=reference,
    )


def dumped(root: Any) -> bytes:  # noqa: ANN401
    """Return the bytes of a tree."""
    return bytes(etree.tostring(root))


def pinned(by: Signer) -> Signers:
    """Believe one certificate."""
    return Signers.of_pem(pinned=by.pem, authorities=None)


def issued_by(by: Signer) -> Signers:
    """Believe what a CA issued."""
    return Signers.of_pem(pinned=None, authorities=by.pem)


Trust = Callable[[Signer, Signer], Signers]
TRUSTS: list[Trust] = [lambda _ca, maker: pinned(maker), lambda ca, _m: issued_by(ca)]


@pytest.mark.parametrize("trust", TRUSTS, ids=["pinned", "ca"])
class TestSigners:
    """Whose signature it is."""

    def test_right(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """By the one that was named; encrypted ones still need their key."""
        signers = trust(ca, maker)

        plainly = parsed(dumped(signed(container(), maker)), signers=signers)
        text = FIGURE_6.partition("?>")[2]
        closed = parsed(
            dumped(signed(text, maker)),
            signers=signers,
            preshared=PRESHARED,
            require_signature=True,
        )

        assert SEED == only(plainly).seed.reveal()
        assert SEED == only(closed).seed.reveal()

    def test_another(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """By another, who brings his own certificate, is refused."""
        other = signer("Maker", signer("CA"))
        text = dumped(signed(container(), other))

        assert "not by the signer" in refusal(parsed, text, signers=trust(ca, maker))

    def test_altered(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """One changed value is refused."""
        text = dumped(signed(container(), maker))
        changed = text.replace(b64(SEED).encode(), b64(b"x" * 20).encode())
        assert text != changed

        assert "not by the signer" in refusal(parsed, changed, signers=trust(ca, maker))

    def test_missing(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """Whoever names a signer gets nothing unsigned."""
        signers = trust(ca, maker)

        assert "not signed" in refusal(parsed, container(), signers=signers)
        assert "not signed" in refusal(parsed, container(), require_signature=True)

    def test_wrapped(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """A signed container within another, whose keys nobody signed, is refused."""
        inner = signed(container(attributes='Id="a"'), maker, reference="#a")
        signature = inner.find(f"{DS}Signature")
        evil = etree.fromstring(
            container(key("evil", secret=plain(b64(b"x" * 20)))).encode()
        )
        signers = trust(ca, maker)

        whole = copy.deepcopy(evil)
        whole.append(copy.deepcopy(inner))
        beside = copy.deepcopy(evil)
        hollow = copy.deepcopy(inner)
        hollow.remove(hollow.find(f"{DS}Signature"))
        beside.append(hollow)
        beside.append(copy.deepcopy(signature))
        twin = copy.deepcopy(evil)
        twin.set("Id", "a")
        twin.append(copy.deepcopy(hollow))
        twin.append(copy.deepcopy(signature))
        inside = copy.deepcopy(evil)
        kept = copy.deepcopy(signature)
        etree.SubElement(kept, f"{DS}Object").append(copy.deepcopy(hollow))
        inside.append(kept)

        assert "place of its own" in refusal(parsed, dumped(whole), signers=signers)
        for root in (beside, twin):
            assert "a part of it" in refusal(parsed, dumped(root), signers=signers)
        assert "several things" in refusal(parsed, dumped(inside), signers=signers)

    def test_two_signatures(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """There is one signature."""
        root = signed(container(), maker)
        root.append(copy.deepcopy(root.find(f"{DS}Signature")))

        told = refusal(parsed, dumped(root), signers=trust(ca, maker))

        assert "place of its own" in told

    @pytest.mark.parametrize(
        "algorithm",
        [
            "http://www.w3.org/TR/1999/REC-xslt-19991116",
            "http://www.w3.org/TR/1999/REC-xpath-19991116",
            "http://www.w3.org/2000/09/xmldsig#base64",
        ],
    )
    def test_transforms(
        self,
        parsed: Parse,
        ca: Signer,
        maker: Signer,
        trust: Trust,
        algorithm: str,
    ) -> None:
        """A transform that chooses what is signed is refused before it runs."""
        root = signed(container(), maker)
        transforms = root.find(f".//{DS}Transforms")
        etree.SubElement(transforms, f"{DS}Transform").set("Algorithm", algorithm)

        assert "transform" in refusal(parsed, dumped(root), signers=trust(ca, maker))

    def test_algorithms(
        self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust
    ) -> None:
        """SHA-1, HMAC (by the certificate as key) and unknown ones are refused."""
        text = dumped(signed(container(), maker))
        for old, new, reason in (
            ("ecdsa-sha256", "ecdsa-sha1", "algorithm"),
            ("2001/04/xmlenc#sha256", "2000/09/xmldsig#sha1", "algorithm"),
            ("more#ecdsa-sha256", "more#hmac-sha256", "algorithm"),
            ("2001/04/xmldsig-more#ecdsa-sha256", "odd", "algorithm"),
            ("2001/04/xmldsig-more#ecdsa-sha256", "2001/04/xmlenc#sha256", "signer"),
            ("ecdsa-sha256", "rsa-sha256", "signer"),
            ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA", "signer"),
            ("ds:DigestValue", "ds:Odd", "signer"),
        ):
            changed = text.replace(old.encode(), new.encode())
            assert text != changed
            assert reason in refusal(parsed, changed, signers=trust(ca, maker))

    def test_time(self, parsed: Parse, ca: Signer, maker: Signer, trust: Trust) -> None:
        """A certificate that is no longer, or not yet, valid signs nothing."""
        text = dumped(signed(container(), maker))
        signers = trust(ca, maker)

        for now in (NOW - 2 * 86400, NOW + 2 * 86400):
            assert "not by the" in refusal(parsed, text, signers=signers, now=now)


def test_weak_hashes(parsed: Parse, maker: Signer) -> None:
    """SHA-224, which signxml would take, is none of ours."""
    weak = SignatureMethod.ECDSA_SHA224
    roots = (
        signed(container(), maker, method=weak),
        signed(container(), maker, digest=DigestAlgorithm.SHA224),
    )

    for root in roots:
        told = refusal(parsed, dumped(root), signers=pinned(maker))
        assert "algorithm that is refused" in told


def test_part_of_it(parsed: Parse, maker: Signer) -> None:
    """A signature over one package leaves the others to anyone: refused."""
    one, two = key("a"), key("b")
    text = container(one.replace("<KeyPackage>", '<KeyPackage Id="p">'), two)
    root = signed(text, maker, reference="#p")

    assert "a part of it" in refusal(parsed, dumped(root), signers=pinned(maker))


def test_nobody_named(parsed: Parse, maker: Signer) -> None:
    """A signature that nobody can be held to is not skipped."""
    text = dumped(signed(container(), maker))

    assert "name the signer" in refusal(parsed, text)


def test_rsa(parsed: Parse, ca: Signer) -> None:
    """RSA of 2048 bits signs; of 1024 it does not."""
    for bits, accepted in ((2048, True), (1024, False)):
        private = rsa.generate_private_key(65537, bits)
        by = signer("Maker", ca, private=private)
        text = dumped(signed(container(), by))
        if accepted:
            assert only(parsed(text, signers=pinned(by)))
        else:
            assert "2048" in refusal(parsed, text, signers=pinned(by))


def test_key_usage(parsed: Parse, ca: Signer) -> None:
    """A certificate for something else than signatures is no signer's."""
    by = signer("Maker", ca, usage=False)
    text = dumped(signed(container(), by))

    assert "not by the signer" in refusal(parsed, text, signers=issued_by(ca))


def test_signers_are_named_once(ca: Signer, maker: Signer) -> None:
    """One certificate, or CAs; and they are certificates."""
    for pair in ((None, None), (maker.pem, ca.pem), (b"?", None), (None, b"?")):
        with pytest.raises(ConfigurationError):
            Signers.of_pem(pinned=pair[0], authorities=pair[1])
