"""Attacks on signed containers: what was not signed is never read (RFC 6030 section 7).

Each begins with a container that its maker signed, and changes it.
"""

import base64
import copy
from collections.abc import Callable
from typing import Any

import pytest
from pskc_samples import (
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
from test_pskc_signing import DS, Signer, dumped, issued_by, pinned, signed, signer

from otpseal.adapters.file_keys import RsaKeys

Change = Callable[[bytes], bytes]

DEVICE = "<DeviceInfo><SerialNo>1234</SerialNo></DeviceInfo>"
EVIL = key("evil", secret=plain(b64(b"x" * 20))).encode()


@pytest.fixture(scope="module")
def maker() -> Signer:
    """A maker of tokens."""
    return signer("Maker", signer("CA"))


@pytest.fixture
def parsed(service_keys: RsaKeys) -> Parse:
    """What the service reads."""
    return parser(service_keys)


@pytest.fixture(scope="module")
def text(maker: Signer) -> bytes:
    """A container that is signed as a whole."""
    return dumped(signed(container(key(device=DEVICE)), maker))


def swap(old: str, new: str | bytes) -> Change:
    """Return a change of one piece."""

    def change(whole: bytes) -> bytes:
        assert old.encode() in whole
        new_bytes = new.encode() if isinstance(new, str) else new
        return whole.replace(old.encode(), new_bytes, 1)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap("<KeyPackage>", EVIL + b"<KeyPackage>"), "not by the signer"),
        (swap("</KeyContainer>", EVIL + b"</KeyContainer>"), "not by the signer"),
        (swap("</ds:Signature>", EVIL + b"</ds:Signature>"), "not by the signer"),
        (
            swap(
                "</ds:Signature>",
                b"<ds:Object>" + EVIL + b"</ds:Object></ds:Signature>",
            ),
            "several things",
        ),
        (swap('URI=""', 'URI="#x"'), "a part of it"),
        (swap('URI=""', 'URI="#xpointer(/)"'), "a part of it"),
        (swap('URI=""', 'URI="http://127.0.0.1:9/"'), "a part of it"),
        (swap('URI=""', 'URI="file:///etc/hostname"'), "a part of it"),
        (swap(' URI=""', ""), "what it is over"),
        (swap('URI=""', 'URI="" Type="urn:x"'), "not by the signer"),
        (swap("</ds:SignedInfo>", "</ds:SignedInfo><ds:SignedInfo/>"), "several"),
        (swap("</ds:Reference>", "</ds:Reference><ds:Reference URI=''/>"), "several"),
        (
            swap(
                '/><ds:Reference URI=""',
                "><ds:HMACOutputLength>8</ds:HMACOutputLength></ds:SignatureMethod>"
                '<ds:Reference URI=""',
            ),
            "not by the signer",
        ),
        (swap(">1234<", "><?x y?>1234<"), "not by the signer"),
        (swap("<ds:DigestValue>", "<ds:DigestValue>AAAA<!---->"), "not by the signer"),
    ],
)
def test_changed(
    parsed: Parse, maker: Signer, text: bytes, change: Change, reason: str
) -> None:
    """Nothing that is put in, or that says what is signed, gets anything in."""
    assert reason in refusal(parsed, change(text), signers=pinned(maker))


@pytest.mark.parametrize("name", ["Id", "ID", "id", "xml:id", "ds:Id"])
def test_two_of_one_id(parsed: Parse, maker: Signer, name: str) -> None:
    """A reference by Id means the one that has it, and that is the container."""
    root = signed(container(attributes='Id="a"'), maker, reference="#a")
    text = dumped(root)
    twice = swap("<KeyPackage>", f'<KeyPackage {name}="a">')(text)

    assert only(parsed(text, signers=pinned(maker)))
    assert "a part of it" in refusal(parsed, twice, signers=pinned(maker))


def test_a_signature_in_another_namespace(parsed: Parse, text: bytes) -> None:
    """What looks like a signature, as in the RFC's figure 9, is not passed over."""
    other = text.replace(b"ds:Signature>", b"Signature>")

    assert "not known" in refusal(parsed, other)


def test_comments(parsed: Parse, maker: Signer, text: bytes) -> None:
    """A comment, which is not signed, changes nothing of what is read."""
    torn = swap(">1234<", ">12<!-- -->34<")(text)

    assert "1234" == only(parsed(torn, signers=pinned(maker))).label


class TestKeyInfo:
    """It is the attacker's to write: no key is taken from it."""

    @staticmethod
    def with_info_of(root: Any, other: Any) -> bytes:  # noqa: ANN401 - lxml
        """Return `root` with the KeyInfo of another signature."""
        made = copy.deepcopy(root)
        info = made.find(f".//{DS}KeyInfo")
        info.getparent().replace(info, copy.deepcopy(other.find(f".//{DS}KeyInfo")))
        return dumped(made)

    def test_of_the_maker(self, parsed: Parse, maker: Signer) -> None:
        """With the maker's certificate a signature by another is still another's."""
        ca = signer("CA")
        honest = signed(container(), signer("Maker", ca))
        evil = signed(container(), signer("Maker", signer("CA")))

        text = self.with_info_of(evil, honest)

        assert "not by the" in refusal(parsed, text, signers=issued_by(ca))
        assert "not by the" in refusal(parsed, dumped(evil), signers=pinned(maker))

    def test_is_not_needed(self, parsed: Parse, maker: Signer) -> None:
        """A pinned certificate verifies without it, and whatever it says."""
        root = signed(container(), maker)
        other = self.with_info_of(root, signed(container(), signer("X", signer("Y"))))
        bare = copy.deepcopy(root)
        info = bare.find(f".//{DS}KeyInfo")
        info.getparent().remove(info)

        for text in (other, dumped(bare)):
            entry = only(parsed(text, signers=pinned(maker)))
            assert SEED == entry.seed.reveal()
        issued = issued_by(signer("CA"))
        assert "no certificate" in refusal(parsed, dumped(bare), signers=issued)

    def test_another_key_beside(self, parsed: Parse, maker: Signer) -> None:
        """A KeyValue that is not the certificate's is a contradiction: refused."""
        number = base64.b64encode(bytes([1]) * 256).decode()
        text = dumped(signed(container(), maker)).replace(
            b"<ds:X509Data>",
            f"<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>{number}</ds:Modulus><ds:Exponent"
            ">AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue><ds:X509Data>".encode(),
        )

        assert b"RSAKeyValue" in text
        refusal(parsed, text, signers=pinned(maker))
