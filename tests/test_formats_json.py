"""otpseal.formats.aegis and twofas: what their exports hold, and what they must not."""

import json
from typing import Any

import pytest
from formats_samples import (
    FOOBAR_SEED,
    RFC_SECRET,
    VECTORS,
    base32,
    entries,
    entry,
    only_fault,
    reasons,
    refusal,
)
from hypothesis import given

from otpseal.formats import Format, aegis, twofas
from otpseal.formats.row import Entry

_INFO = {"secret": RFC_SECRET, "algo": "SHA1", "digits": 6, "period": 30}


def _aegis(*rows: object, **changes: object) -> str:
    vault = {
        "version": 1,
        "header": {"slots": None, "params": None},
        "db": {"version": 3, "entries": list(rows)},
    }
    return json.dumps({**vault, **changes})


def _aegis_entry(**info: object) -> dict[str, object]:
    return {"type": "totp", "name": "a", "issuer": "E", "info": {**_INFO, **info}}


def _twofas(*rows: object, **changes: object) -> str:
    return json.dumps({"services": list(rows), "schemaVersion": 4, **changes})


def _service(name: str = "N", **otp: object) -> dict[str, Any]:
    return {"name": name, "secret": RFC_SECRET, "otp": otp}


class TestAegis:
    """Plain vaults of Aegis."""

    def test_the_sample(self) -> None:
        """TOTP and HOTP are read; Steam, mOTP and Yandex are refused by name."""
        rows = aegis.parse((VECTORS / "aegis_plain.json").read_bytes())

        assert [
            entry(1, issuer="Example", label="alice"),
            entry(
                2,
                FOOBAR_SEED,
                issuer="Bank",
                label="bob",
                type="hotp",
                algorithm="SHA256",
                digits=8,
                counter=12,
            ),
            entry(
                6,
                FOOBAR_SEED,
                issuer="Example",
                label="frank",
                algorithm="SHA512",
                digits=7,
                period=300,
            ),
        ] == [row for row in rows if isinstance(row, Entry)]
        assert {
            3: "Steam's codes are not those of RFC 6238",
            4: "mOTP's codes are not those of RFC 6238",
            5: "Yandex's codes are not those of RFC 6238",
        } == reasons(rows)

    @given(row=entries())
    def test_every_entry_is_read(self, row: Entry) -> None:
        """Every valid entry comes back from a vault that holds it."""
        moving = (
            {"period": row.period} if row.type == "totp" else {"counter": row.counter}
        )
        content = _aegis(
            {
                "type": row.type,
                "name": row.label,
                "issuer": row.issuer,
                "info": {
                    "secret": base32(row.seed),
                    "algo": row.algorithm,
                    "digits": row.digits,
                    **moving,
                },
            }
        )

        assert [row] == aegis.parse(content.encode())

    @pytest.mark.parametrize(
        "content",
        [
            (VECTORS / "aegis_encrypted.json").read_bytes(),
            _aegis(db="AAAA"),
            _aegis(header={"slots": [], "params": None}),
        ],
    )
    def test_an_encrypted_vault_says_what_to_do(self, content: bytes) -> None:
        """Either sign of encryption is enough, and the words tell how to export."""
        found = refusal(content, Format.AEGIS)

        assert "the Aegis vault is encrypted: export it anew" in found

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("{}", "the file is not a vault of Aegis"),
            (_aegis(header=None), "the file is not a vault of Aegis"),
            (_aegis(db=None), "the file is not a vault of Aegis"),
            (_aegis(db={"version": 3}), "the file is not a vault of Aegis"),
            (_aegis(version=2), "the Aegis vault has a version"),
            (_aegis(version=True), "the Aegis vault has a version"),
            (_aegis(db={"version": 4, "entries": []}), "the Aegis vault has a version"),
            (_aegis(db={"version": 1.0, "entries": []}), "the Aegis vault has a"),
        ],
    )
    def test_what_is_no_vault(self, content: str, reason: str) -> None:
        """Another shape or a later version is refused as a whole."""
        assert refusal(content, Format.AEGIS).startswith(reason)

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (None, "the entry is no object with an info object"),
            ({"type": "totp"}, "the entry is no object with an info object"),
            (_aegis_entry(digits="6"), "a field that holds a whole number holds"),
            (_aegis_entry(digits=6.0), "a field that holds a whole number holds"),
            (_aegis_entry(digits=True), "a field that holds a whole number holds"),
            (_aegis_entry(digits=10**4000), "digits are 6 to 8"),
            (_aegis_entry(secret=7), "a field that holds text holds something else"),
            (_aegis_entry(secret=None), "the secret is not base32"),
            (_aegis_entry(algo="MD5"), "the algorithm is none of"),
            ({**_aegis_entry(), "type": "hotp"}, "type hotp needs its counter"),
            ({**_aegis_entry(), "type": None}, "the type is neither totp nor hotp"),
            ({**_aegis_entry(), "name": "\ud800"}, "issuer or label holds a control"),
        ],
    )
    def test_refused_entries(self, row: object, reason: str) -> None:
        """A bad entry is a fault of its own, whatever stands in its fields."""
        assert only_fault(_aegis(row), Format.AEGIS).startswith(reason)


class TestTwofas:
    """Backups of 2FAS."""

    def test_the_sample(self) -> None:
        """Scanned and hand-made services are read; Steam and MD5 are refused."""
        rows = twofas.parse((VECTORS / "twofas_schema4.json").read_bytes())

        assert [
            entry(1, issuer="Example", label="alice"),
            entry(
                2,
                FOOBAR_SEED,
                issuer="By hand",
                algorithm="SHA512",
                digits=8,
                period=60,
            ),
            entry(
                3,
                FOOBAR_SEED,
                issuer="Bank",
                label="bob",
                type="hotp",
                algorithm="SHA256",
                counter=9,
            ),
        ] == [row for row in rows if isinstance(row, Entry)]
        assert {
            4: "Steam's codes are not those of RFC 6238",
            5: "the algorithm is none of SHA1, SHA256 and SHA512",
        } == reasons(rows)

    def test_schema_1(self) -> None:
        """The first schema wrote neither type nor parameters: TOTP with defaults."""
        rows = twofas.parse((VECTORS / "twofas_schema1.json").read_bytes())

        assert [entry(1, issuer="Example", label="alice")] == rows

    @given(row=entries().filter(lambda row: row.issuer and row.label))
    def test_every_entry_is_read(self, row: Entry) -> None:
        """Every valid entry comes back from a backup that holds it."""
        service = _service(
            issuer=row.issuer,
            account=row.label,
            label=f"{row.issuer}:{row.label}",
            digits=row.digits,
            period=row.period,
            algorithm=row.algorithm,
            counter=row.counter,
            tokenType=row.type.upper(),
        )
        service["secret"] = base32(row.seed)

        assert [row] == twofas.parse(_twofas(service).encode())

    @pytest.mark.parametrize(
        ("service", "issuer", "label"),
        [
            (_service(issuer="I", account="a", label="P:l"), "I", "a"),
            (_service(account="a", label="P:l"), "N", "a"),
            (_service("", account="a", label="P:l"), "P", "a"),
            (_service("", label="P: l"), "P", "l"),
            (_service(label="l"), "N", "l"),
            (_service(issuer=None, account=None, label=None), "N", ""),
        ],
    )
    def test_names(self, service: dict[str, Any], issuer: str, label: str) -> None:
        """Issuer, else name, else prefix; account, else the rest of the label."""
        expected = [entry(1, issuer=issuer, label=label)]

        assert expected == twofas.parse(_twofas(service).encode())

    @pytest.mark.parametrize(
        "content",
        [
            (VECTORS / "twofas_encrypted.json").read_bytes(),
            '{"servicesEncrypted": "AAAA:AAAA:AAAA"}',
            _twofas(_service(), servicesEncrypted="AAAA:AAAA:AAAA"),
        ],
    )
    def test_an_encrypted_backup_says_what_to_do(self, content: bytes) -> None:
        """Ciphertext beside services is refused too: half a file is no file."""
        found = refusal(content, Format.TWOFAS)

        assert "the 2FAS backup is encrypted: export it anew" in found

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_an_empty_ciphertext_is_none(self, nothing: str | None) -> None:
        """A plain backup may carry the key with nothing in it."""
        content = _twofas(_service(), servicesEncrypted=nothing)

        assert [entry(1, issuer="N")] == twofas.parse(content.encode())

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("{}", "the file is not a backup of 2FAS"),
            (_twofas(services={}), "the file is not a backup of 2FAS"),
            (_twofas(schemaVersion=0), "the 2FAS backup has a version"),
            (_twofas(schemaVersion=5), "the 2FAS backup has a version"),
            (_twofas(schemaVersion=True), "the 2FAS backup has a version"),
            (_twofas(schemaVersion="4"), "the 2FAS backup has a version"),
        ],
    )
    def test_what_is_no_backup(self, content: str, reason: str) -> None:
        """Another shape or a later version is refused as a whole."""
        assert refusal(content, Format.TWOFAS).startswith(reason)

    @pytest.mark.parametrize(
        ("service", "reason"),
        [
            ([], "the service is no object with an otp object"),
            ({"secret": RFC_SECRET}, "the service is no object with an otp object"),
            (_service(tokenType="HOTP"), "type hotp needs its counter"),
            (_service(tokenType="HOTP", counter=-1), "the counter is 0 to 2**63 - 1"),
            (_service(counter=1), "a counter belongs to type hotp"),
            (_service(issuer=["x"]), "a field that holds text holds something else"),
        ],
    )
    def test_refused_services(self, service: object, reason: str) -> None:
        """A bad service is a fault of its own, whatever stands in its fields."""
        assert only_fault(_twofas(service), Format.TWOFAS).startswith(reason)
