"""The certificate that a service is given: kept only if it is of its own key."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from test_certificates import CA, CA_KEY, DAY, NOW, Plan

from otpseal.adapters.file_keys import RsaKeys
from otpseal.certificate_profile import SEED_RECEIVING, SEED_SIGNING, subscriber_uri
from otpseal.certificates import Issuer, make_ca, pem
from otpseal.errors import KeyRefused
from otpseal.own_certificate import check

SHOP = subscriber_uri("shop")
OTHER_CA_KEY = ec.generate_private_key(ec.SECP256R1())


def plan(keys: RsaKeys) -> Plan:
    """Return the plan of a good one."""
    return Plan(
        key=keys.public_key,
        subject="shop",
        names=(SHOP,),
        purposes=(SEED_RECEIVING,),
    )


def refused(text: str, keys: RsaKeys, ca: x509.Certificate | None) -> str:
    """Return why a certificate is refused."""
    with pytest.raises(KeyRefused) as caught:
        check(text, key=keys.public_key, ca=ca, now=NOW)
    return str(caught.value)


@pytest.mark.parametrize("ca", [CA, None], ids=["by its CA", "by nobody known"])
def test_what_an_authority_issues_is_kept(
    service_keys: RsaKeys, ca: x509.Certificate | None
) -> None:
    """To the letter, whether its issuer can be checked or not."""
    issuer = Issuer(CA, CA_KEY)
    made = issuer.issue_subscriber("shop", service_keys.public_key, now=NOW)
    planned = plan(service_keys).made()

    for certificate in (made, planned):
        text = pem(certificate).decode()
        key = service_keys.public_key
        assert text.encode() == check(text, key=key, ca=ca, now=NOW)


@pytest.mark.parametrize("ca", [CA, None], ids=["by its CA", "by nobody known"])
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"days": (-2, -1)}, "expired"),
        ({"days": (1, 2)}, "not valid yet"),
        ({"purposes": (SEED_SIGNING,)}, "not for receiving"),
        ({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "not for receiving"),
        ({"purposes": (x509.ObjectIdentifier("2.5.29.37.0"),)}, "not for receiving"),
        ({"purposes": ()}, "not for receiving"),
        ({"is_ca": True, "path_length": 0}, "not for receiving"),
        ({"names": ()}, "name a subscriber"),
        ({"names": (SHOP, subscriber_uri("bank"))}, "name a subscriber"),
        ({"names": (x509.DNSName("shop"),)}, "name a subscriber"),
        ({"names": (subscriber_uri("\x1b[2J"),)}, "name a subscriber"),
        (
            {"names": (x509.UniformResourceIdentifier("otpseal:authority:shop"),)},
            "name a subscriber",
        ),
    ],
)
def test_what_is_not_ours_is_refused(
    service_keys: RsaKeys,
    ca: x509.Certificate | None,
    changed: dict[str, object],
    told: str,
) -> None:
    """Of any other time, purpose or name: whoever issued it."""
    made = replace(plan(service_keys), **changed).made()  # type: ignore[arg-type]

    assert told in refused(pem(made).decode(), service_keys, ca)


@pytest.mark.parametrize("ca", [CA, None], ids=["by its CA", "by nobody known"])
def test_another_key_is_refused(
    service_keys: RsaKeys, other_keys: RsaKeys, ca: x509.Certificate | None
) -> None:
    """What is sealed to it we could not open; nor a key of another kind."""
    for key in (other_keys.public_key, Plan().key):
        made = replace(plan(service_keys), key=key).made()

        assert "another key" in refused(pem(made).decode(), service_keys, ca)


def test_another_ca_is_refused(service_keys: RsaKeys) -> None:
    """By whatever name it goes; a CA that ended counts no more, either."""
    namesake = replace(plan(service_keys), issuer_key=OTHER_CA_KEY).made()
    ended = make_ca("test CA", CA_KEY, now=NOW - 20 * DAY, days=10)
    good = plan(service_keys).made()

    for certificate, ca in ((namesake, CA), (good, ended)):
        text = pem(certificate).decode()
        assert "did not issue it" in refused(text, service_keys, ca)


@pytest.mark.parametrize("ca", [CA, None], ids=["by its CA", "by nobody known"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "\u00fc",
        "\ud800",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ],
)
def test_noise_is_refused(
    service_keys: RsaKeys, ca: x509.Certificate | None, text: str
) -> None:
    """It has no form; nothing of it is repeated."""
    said = refused(text, service_keys, ca)

    assert "it is no certificate in PEM form" == said


def test_only_the_certificate_is_kept(service_keys: RsaKeys) -> None:
    """What stands around it, as escape sequences for a terminal, is left out."""
    text = pem(plan(service_keys).made()).decode()

    kept = check(f"\x1b[2J {text}{text}", key=service_keys.public_key, ca=CA, now=NOW)

    assert text.encode() == kept
