"""The signature over a container: RFC 6030 section 6 points to XML Signature.

signxml verifies; before it the shape is checked, so that there is one signature, in
one place, over the whole container; after it only what was signed is read on.
"""

import binascii
import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from lxml import etree
from signxml.algorithms import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureMethod,
)
from signxml.exceptions import InvalidInput, SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from otpseal.errors import ConfigurationError, FileRefused
from otpseal.formats.pskc.tree import DS, PSKC

#: Canonical forms and the enveloped transform, by URI. No XPath, no XSLT: they choose
#: what is signed.
_TRANSFORMS: Final = frozenset(
    {
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    }
)
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_METHODS: Final = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.SHA256_RSA_MGF1,
        SignatureMethod.SHA384_RSA_MGF1,
        SignatureMethod.SHA512_RSA_MGF1,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
    }
)
_DIGESTS: Final = frozenset(
    {DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512}
)
_STRONG: Final = {one.value for one in _METHODS} | {one.value for one in _DIGESTS}
_MIN_RSA_BITS: Final = 2048
_MAX_CHAIN: Final = 8

_WRONG: Final = "the container's signature is not by the signer that was named"


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures are believed.

    Attributes:
        pinned: the only certificate, or None for any that `authorities` issued.
        authorities: CA certificates.
    """

    pinned: x509.Certificate | None = None
    authorities: tuple[x509.Certificate, ...] = ()

    @classmethod
    def of_pem(cls, *, pinned: bytes | None, authorities: bytes | None) -> "Signers":
        """Return those of PEM files, of which exactly one is given.

        Raises:
            ConfigurationError: none or both, or no certificates.
        """
        if (pinned is None) == (authorities is None):
            raise ConfigurationError(
                "name a signer by --pskc-certificate or by --pskc-ca-file"
            )
        try:
            if pinned is not None:
                return cls(pinned=x509.load_pem_x509_certificate(pinned))
            found = x509.load_pem_x509_certificates(authorities or b"")
        except ValueError:
            raise ConfigurationError(
                "the signer's certificate is no PEM certificate"
            ) from None
        return cls(authorities=tuple(found))


def signed_part(
    root: Any,  # noqa: ANN401 - an element of lxml, which has no types
    signers: Signers | None,
    *,
    now: float,
    required: bool,
) -> Any:  # noqa: ANN401
    """Return the container that was signed, without its signature.

    A container without any is returned as it is.

    Raises:
        FileRefused: there is a signature and nobody to compare it with, it is wrong,
            or there is none though it is `required`.
    """
    found = list(root.iter(f"{DS}Signature"))
    if not found:
        if required or signers is not None:
            raise FileRefused("the container is not signed")
        return root
    if signers is None:
        raise FileRefused(
            "the container is signed: name the signer by --pskc-certificate or"
            " --pskc-ca-file"
        )
    signature = found[0]
    if len(found) > 1 or signature.getparent() is not root:
        raise FileRefused(
            "the container has a signature in a place of its own choosing"
        )
    _require_strong(signature)
    _require_whole(root, signature)
    signer = signers.pinned or _issued(signature, signers.authorities, now)
    return _verified(root, signer, now)


def _require_whole(root: Any, signature: Any) -> None:  # noqa: ANN401 - lxml
    """Check that the signature is over all of `root` but itself.

    Else what is signed and what is read could be two things (signature wrapping).
    """
    ids = [
        value
        for element in root.iter()
        if isinstance(element.tag, str)
        for name, value in element.attrib.items()
        if etree.QName(name).localname.lower() == "id"
    ]
    info = signature.findall(f"{DS}SignedInfo")
    references = signature.findall(f"{DS}SignedInfo/{DS}Reference")
    objects = signature.findall(f"{DS}Object")
    if len(info) != 1 or len(references) != 1 or objects:
        raise FileRefused("the container's signature is over several things")
    uri = references[0].get("URI")
    own = root.get("Id")
    if uri is None:
        raise FileRefused("the container's signature does not say what it is over")
    if uri and (own is None or uri != f"#{own}" or ids.count(own) != 1):
        raise FileRefused("the container's signature is over a part of it")
    transforms = [
        one.get("Algorithm")
        for one in references[0].findall(f"{DS}Transforms/{DS}Transform")
    ]
    if _ENVELOPED not in transforms or set(transforms) - _TRANSFORMS:
        raise FileRefused("the container's signature uses a transform that is refused")


def _require_strong(signature: Any) -> None:  # noqa: ANN401 - lxml
    """Check the algorithms before signxml does, to tell which are taken.

    SHA-1 is what pskctool signs by, and no proof of anything: two texts of one digest
    can be made.
    """
    info = f"{DS}SignedInfo"
    asked = [
        *signature.findall(f"{info}/{DS}SignatureMethod"),
        *signature.findall(f"{info}/{DS}Reference/{DS}DigestMethod"),
    ]
    if {one.get("Algorithm") for one in asked} - _STRONG:
        raise FileRefused(
            "the container's signature uses an algorithm that is refused: it has to be"
            " RSA or ECDSA with SHA-256, -384 or -512"
        )


def _issued(
    signature: Any,  # noqa: ANN401 - lxml
    authorities: tuple[x509.Certificate, ...],
    now: float,
) -> x509.Certificate:
    """Return the signer's certificate, issued by one of `authorities`."""
    texts = signature.findall(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate")
    try:
        chain = [
            x509.load_der_x509_certificate(
                binascii.a2b_base64("".join((one.text or "").split()), strict_mode=True)
            )
            for one in texts[:_MAX_CHAIN]
        ]
    except ValueError:
        chain = []
    if not chain:
        raise FileRefused("the container's signature holds no certificate")
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(authorities)))
        .time(dt.datetime.fromtimestamp(now, dt.UTC))
        .extension_policies(
            # No purpose is registered for signers of containers; but a key that is
            # not for signatures is none.
            ee_policy=verification.ExtensionPolicy.permit_all().require_present(
                x509.KeyUsage, verification.Criticality.AGNOSTIC, _signs
            ),
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
        )
        .build_client_verifier()
    )
    try:
        return verifier.verify(chain[0], chain[1:]).chain[0]
    except verification.VerificationError:
        pass
    raise FileRefused(_WRONG)


def _signs(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage
) -> None:
    if not usage.digital_signature:
        raise ValueError("the key is not for signatures")


class _Verifier(XMLVerifier):
    """signxml's, with the canonical form of SignedInfo that everyone else has.

    Where an element above it declares the default namespace, as in most signatures
    that .NET, Java and xmlsec1 write, libxml2 puts `xmlns=""` into its children.
    """

    def _c14n(
        self,
        nodes: Any,  # noqa: ANN401 - lxml
        algorithm: CanonicalizationMethod,
        inclusive_ns_prefixes: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        alone = etree.fromstring(etree.tostring(nodes, with_tail=False))
        return super()._c14n(alone, algorithm, inclusive_ns_prefixes)


def _verified(root: Any, signer: x509.Certificate, now: float) -> Any:  # noqa: ANN401
    key = signer.public_key()
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS
    ):
        raise FileRefused("the signer's key is neither RSA of 2048 bits nor of a curve")
    config = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=_METHODS,
        digest_algorithms=_DIGESTS,
        verification_time=dt.datetime.fromtimestamp(now, dt.UTC),
    )
    try:
        found = _Verifier().verify(root, x509_cert=signer, expect_config=config)
    # etree's: a signature that breaks its schema. ValueError, KeyError: algorithms
    # that are not known, base64.
    except (SignXMLException, InvalidInput, etree.LxmlError, ValueError, KeyError):
        found = None
    if found is None or isinstance(found, list) or found.signed_xml is None:
        raise FileRefused(_WRONG)
    # Only what was signed is read on.
    if found.signed_xml.tag != f"{PSKC}KeyContainer":
        raise FileRefused(_WRONG)
    return found.signed_xml
