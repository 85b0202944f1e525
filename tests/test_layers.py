"""The house of DESIGN.md section 2: who may import whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import otpseal

SOURCE = Path(otpseal.__file__).parent

RULES = {"secret", "errors", "base64url", "strict_json", "kid"}
LEDGER = {
    *RULES,
    "access",
    "account_id",
    "recovery",
    "wallclock",
    "attempt",
    "account_state",
    "subscription",
    "ports_enrolment",
    "totp",
    "throttle",
    "audit",
    "verification",
    "envelope",
    "proof",
    "padding",
    "keypolicy",
    "storage_key",
    "key_records",
    "ports_trust",
    "ports_keys",
    "ports_rekeying",
    "ports",
}
FORMATS = {"aegis", "csv_rows", "otpauth", "twofas"}
#: What reads and writes PSKC: each may import those before it.
PSKC = ["token", "tree", "signing", "ciphers", "protection", "keys", "container"]
PSKC.append("writer")
#: What a service is made of: each may import those before it.
PARTS = [
    "timekeeper",
    "seed_keeping",
    "subjects",
    "decider",
    "callers",
    "accounts",
    "envelope_opener",
    "service_keys",
    "envelope_acceptance",
    "envelopes",
    "upkeep",
]
#: What is known of seeds whose sender is known.
SENDERS = {
    "suite",
    "seed_claims",
    "signers",
    "signed_envelope",
    "pq_keys",
    "pq_envelope",
    "receipt",
    "trust",
    "trust_book",
}
#: What administrators do beside it, each by itself.
ADMIN = {"clock_admin", "moving", "export", "backup", "restore"}
USE_CASES = {"service", "authority", "minute"}
SQL = {
    "adapters.sql_schema",
    "adapters.sql_engine",
    "adapters.sqlite",
    "adapters.postgres",
    "adapters.sql_prepared",
    "adapters.sql_revision",
    "adapters.sql_bulk",
    "adapters.sql_tables",
    "adapters.sql_accounts",
    "adapters.sql_callers",
    "adapters.sql_events",
    "adapters.sql_enrolment",
    "adapters.sql_trust",
    "adapters.sql_keys",
    "adapters.sql_rekeying",
    "adapters.sql_store",
}
FILES = {
    "adapters.private_files",
    "adapters.file_keys",
    "adapters.file_code_log",
    "adapters.seed_file",
    "adapters.authority_address",
}
#: Files of private keys: the ways of all of them, and RSA keys'.
KEY_FILES = {"adapters.private_files", "adapters.file_keys"}

#: Module -> what of otpseal it may import. What is not listed here may not exist.
ALLOWED: dict[str, set[str]] = {
    # row 0: words
    "errors": set(),
    "secret": set(),
    "process": set(),
    "suite": set(),
    "base64url": set(),
    "strict_json": set(),
    "kid": {"base64url"},
    "findings": set(),
    # row 1: rules
    "totp": RULES,
    "throttle": RULES,
    "audit": RULES,
    "access": RULES,
    "recovery": RULES,
    "wallclock": RULES,
    "attempt": {*RULES, "access"},
    "keypolicy": RULES,
    "padding": RULES,
    "redaction": RULES,
    "pkcs11_uri": RULES,
    "account_state": {*RULES, "throttle"},
    "verification": {*RULES, "totp", "throttle", "audit", "account_state"},
    "stumbling": RULES,
    "envelope": {*RULES, "padding"},
    "proof": {*RULES, "padding", "keypolicy"},
    "public_jwk": {*RULES, "keypolicy"},
    "certificate_profile": {*RULES, "keypolicy", "public_jwk"},
    "validity": RULES,
    "own_certificate": {*RULES, "certificate_profile", "seed_claims"},
    "certificates": {*RULES, "keypolicy", "public_jwk", "certificate_profile"},
    "tls_certificates": {"errors", "certificates"},
    "enrolment_request": {*RULES, "keypolicy", "storage_key", "requested_keys"},
    "trust_material": {*RULES, "public_jwk", "certificate_profile"},
    "trust": {*RULES, "account_id", "public_jwk", "certificate_profile"}
    | {"trust_material", "seed_claims"},
    "seed_claims": {*RULES, "totp", "account_id"},
    "signers": {"public_jwk", "seed_claims", "suite"},
    "jose_header": RULES,
    "signed_envelope": {*RULES, "jose_header", "keypolicy", "public_jwk"}
    | {"seed_claims", "signers", "stumbling", "suite"},
    "pq_keys": {*RULES, "public_jwk"},
    "requested_keys": {*RULES, "public_jwk", "pq_keys"},
    "pq_envelope": {*RULES, "pq_keys", "seed_claims"}
    | {"signers", "stumbling", "suite"},
    "storage_key": {*RULES, "padding"},
    "key_records": {*RULES, "storage_key", "public_jwk"},
    "backup_format": RULES,
    "backup_merge": {*RULES, "totp", "account_state"},
    "travel": {*RULES, "totp", "padding", "account_id"},
    "account_id": RULES,
    "subscription": {*RULES, "totp", "seed_claims", "suite"},
    "ports_enrolment": {*RULES, "subscription"},
    "receipt_form": {*RULES, "account_id", "seed_claims"},
    "receipt": {*RULES, "public_jwk", "receipt_form", "seed_claims"},
    "formats.row": {*RULES, "account_id"},
    "formats.content": {*RULES, "formats.row"},
    **{
        f"formats.{name}": {*RULES, "formats.row", "formats.content"}
        for name in FORMATS
    },
    "formats": {
        *RULES,
        "formats.row",
        "formats.content",
        *(f"formats.{name}" for name in FORMATS),
    },
    **{
        f"formats.pskc.{name}": {
            *RULES,
            "formats.row",
            "formats.pskc",
            "account_id",
            "totp",
            "padding",
            *(f"formats.pskc.{earlier}" for earlier in PSKC[:place]),
        }
        for place, name in enumerate(PSKC)
    },
    "formats.pskc": set(),
    # row 2: ports, and what every use case writes through them
    "ports_trust": RULES,
    "ports_keys": {*RULES, "storage_key", "key_records"},
    "ports": LEDGER - {"ports"},
    "ports_key_files": LEDGER,
    "ports_rekeying": set(),
    "ledger": LEDGER,
    "trust_book": {*LEDGER, "ledger", "trust", "seed_claims"},
    # row 3: use cases and adapters
    **{part: {*LEDGER, "ledger", *PARTS[:place]} for place, part in enumerate(PARTS)},
    "envelope_opener": {*LEDGER, *SENDERS},
    "service_keys": {*LEDGER, *SENDERS, "ledger", "public_jwk"},
    "envelope_acceptance": {*LEDGER, *SENDERS, "ledger", *PARTS[:6]},
    "envelopes": {*LEDGER, *SENDERS, "ledger", *PARTS[:6], "envelope_acceptance"},
    "accounts": {*LEDGER, "formats.otpauth", "formats.row", "ledger", *PARTS[:5]},
    **{name: {*LEDGER, "ledger"} for name in USE_CASES},
    "subscribers": {*LEDGER, "ledger", "receipt_form", "suite"},
    "key_lifecycle": {*LEDGER, "ledger", "ports_key_files"},
    "key_ring": {*LEDGER, "ledger", "key_lifecycle"},
    "key_report": {*LEDGER, "ledger", "key_lifecycle", "service_keys"},
    "key_watch": LEDGER,
    "storage_rotation": {*LEDGER, "ledger", "key_lifecycle", "key_watch"}
    | {"trust", "trust_book"},
    "issuing": {*LEDGER, *SENDERS, "ledger", "requested_keys", "validity"}
    - {"trust", "trust_book"},
    "enrolment": {*LEDGER, "ledger", "receipt", "requested_keys", "issuing", "suite"},
    "service": {*LEDGER, *SENDERS, "ledger", *PARTS},
    "events": {*LEDGER, "ledger", "callers"},
    "clock_admin": {*LEDGER, "ledger", "timekeeper"},
    "moving": {*LEDGER, "ledger", "seed_keeping", "formats.row", "travel"},
    "export": {*LEDGER, "ledger", "formats.otpauth", "formats.row", "travel"}
    | {"formats.pskc.token", "formats.pskc.writer"},
    "backup": {*LEDGER, "ledger", "backup_format"},
    "restore": {
        *LEDGER,
        "ledger",
        "timekeeper",
        "backup",
        "backup_format",
        "backup_merge",
    },
    **{name: {*LEDGER, *SQL, "suite"} - {name} for name in SQL},
    "adapters.sql_backup": {*LEDGER, *SQL},
    **{name: {*LEDGER, "adapters.private_files"} - {name} for name in FILES},
    "adapters.enrolment_client": {
        *RULES,
        "adapters.authority_client",
        "signed_envelope",
    },
    "adapters.key_siblings": {*LEDGER, "ports_key_files", *KEY_FILES},
    "adapters.signing_files": {*RULES, "keypolicy", "certificates"}
    | {"adapters.private_files"},
    "adapters.signing_swap": {*RULES, "keypolicy", "certificates"}
    | {"adapters.private_files", "adapters.signing_files"},
    "adapters.pq_signing_file": {*RULES, "keypolicy", "pq_keys"}
    | {"adapters.private_files", "adapters.signing_files"},
    "adapters.tls_files": {*RULES, "keypolicy", "certificates", "tls_certificates"}
    | {"adapters.private_files"},
    "adapters.authority_client": {*LEDGER, "adapters.authority_address"},
    "adapters.pkcs11_modules": {*LEDGER, "pkcs11_uri"},
    "adapters.pkcs11_login": {*LEDGER, "pkcs11_uri"},
    "adapters.pkcs11_keys": {*LEDGER, "pkcs11_uri", "adapters.pkcs11_modules"}
    | {"adapters.pkcs11_login"},
    "adapters.pkcs11_siblings": {*LEDGER, "ports_key_files", "pkcs11_uri"}
    | {"adapters.pkcs11_keys", "adapters.pkcs11_login", "adapters.pkcs11_modules"},
    "adapters": set(),
    "adapters.migrations": set(),
    "adapters.migrations.env": SQL,
    # row 4, 5: assembly
    "committer": {*LEDGER, "ledger", *PARTS, *USE_CASES},
    "health": {*LEDGER, "ledger", *PARTS, *USE_CASES},
    "secret_files": RULES,
    "config": {*RULES, "pkcs11_uri", "secret_files", "suite"},
    "key_source": {*RULES, "adapters.file_keys", "adapters.pkcs11_keys", "config"}
    | {"pkcs11_uri", "ports", "secret_files"},
    "key_places": {*RULES, "adapters.key_siblings", "adapters.pkcs11_siblings"}
    | {"config", "key_source", "pkcs11_uri", "ports", "ports_key_files"},
    "unlocking": {*LEDGER, *SQL, "adapters.file_keys", "key_lifecycle"}
    | {"config", "key_places", "key_source", "key_watch", "ledger"},
    "seed_adoption": {*LEDGER, "adapters.seed_file", "service"},
    "wiring": {
        *LEDGER,
        *USE_CASES,
        "adapters.file_code_log",
        "config",
        "key_places",
        "key_ring",
        "seed_adoption",
        "unlocking",
    },
    "logs": {"redaction"},
    # what is looked at without being changed
    "store_inspection": {*LEDGER, *SQL, "ledger"}
    | {"config", "key_source", "unlocking"},
    "file_checks": {*RULES, "findings", "config", "health", "unlocking"}
    | {"store_inspection"},
    "doctor": {
        *LEDGER,
        "ledger",
        "service",
        "seed_claims",
        "trust_book",
        "adapters.file_code_log",
        "findings",
    }
    | {"config", "health", "key_source", "unlocking"}
    | {"store_inspection", "file_checks"},
    "wiring_authority": {
        *LEDGER,
        "adapters.signing_files",
        "adapters.private_files",
        "adapters.file_keys",
        "certificate_profile",
        "certificates",
        "config",
        "enrolment",
        "enrolment_request",
        "issuing",
        "pq_keys",
        "public_jwk",
        "seed_claims",
        "signed_envelope",
        "subscribers",
        "unlocking",
        "validity",
    },
    "wiring_pq": {"adapters.pq_signing_file", "config", "pq_keys", "public_jwk"}
    | {"wiring_authority"},
    "wiring_renewal": {*LEDGER, "ledger", *KEY_FILES}
    | {"adapters.signing_files", "adapters.signing_swap"}
    | {"certificate_profile", "certificates", "public_jwk", "validity"}
    | {"config", "unlocking", "wiring_authority", "wiring_pq"},
    "signing_watch": {*LEDGER, "adapters.signing_files", "config", "issuing"}
    | {"adapters.pq_signing_file", "pq_keys"}
    | {"unlocking", "validity", "wiring_authority", "wiring_pq"},
    "wiring_admin": {
        *LEDGER,
        *ADMIN,
        "trust_book",
        *SQL,
        "adapters.sql_backup",
        "adapters.key_siblings",
        "key_lifecycle",
        "storage_rotation",
        "ports_key_files",
        "config",
        "key_places",
        "key_source",
        "service",
        "timekeeper",
        "unlocking",
    },
    # the doors' door
    "": {"errors", "service", "totp", "verification", "config", "wiring"},
    "__main__": {"cli"},
}
INSIDE = {
    *LEDGER,
    *PARTS,
    *ADMIN,
    *USE_CASES,
    *SENDERS,
    "subscribers",
    "enrolment",
    "requested_keys",
    "receipt",
    "key_records",
    "key_lifecycle",
    "key_report",
    "key_ring",
    "formats",
    "formats.row",
    "formats.content",
    "formats.otpauth",
    *(f"formats.pskc.{name}" for name in PSKC),
    "events",
    "travel",
    "wiring_admin",
    "wiring_authority",
    "wiring_renewal",
    "signing_watch",
    "validity",
    "own_certificate",
    "wiring_pq",
    "unlocking",
    "secret_files",
    "ledger",
    "committer",
    "health",
    "config",
    "key_places",
    "key_source",
    "wiring",
    "process",
    "logs",
    "",
}

#: What a door may import beside `INSIDE` and its own package.
BESIDES: dict[str, set[str]] = {
    # These work on key files and on the network, with no store to wire.
    "cli.keys": {"adapters.file_keys"},
    "cli.proof": {"adapters.file_keys"},
    "cli.seed": {"adapters.file_keys"},
    "cli.moving": {"adapters.file_keys"},
    "cli.request": {"adapters.file_keys", "adapters.authority_client"},
    # Brings up a database before there is a key to open its store by.
    "cli.db": {"adapters.sql_engine"},
    "http.tls": {"adapters.private_files"},
    "cli.doctor": {"doctor", "findings"},
    # The two commands that open the other door.
    "cli.serve": {"http"},
    "cli.workers": {"http"},
    "cli.authority": {"http", "adapters.file_keys"},
    "cli.authority_trust": {"trust_material"},
    "cli.enrol": {"adapters.enrolment_client", "enrolment_request"},
    "cli.authority_subscribers": {"adapters.signing_files"},
    "cli.authority_tls": {"adapters.tls_files", "tls_certificates"},
}


def modules(source: Path) -> Iterator[tuple[str, Path]]:
    """Give every module's name below the package, and its file."""
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if "versions" not in parts:  # Alembic's scripts: imported by no one
            yield ".".join(part for part in parts if part != "__init__"), path


def imports(path: Path, source: Path) -> Iterator[str]:
    """Give what of the package a module imports, wherever in it that stands."""
    for name in imported_names(path):
        head, _, rest = name.partition(".")
        # `from otpseal.errors import SeedMissing` names no module at its end.
        while head == "otpseal" and rest and not _is_module(source, rest):
            rest = rest.rpartition(".")[0]
        if head == "otpseal":
            yield rest


def imported_names(path: Path) -> Iterator[str]:
    """Give the dotted name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_module(source: Path, name: str) -> bool:
    path = source.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def violations(source: Path) -> list[str]:
    """Return every import that the house forbids."""
    found = []
    for name, path in modules(source):
        door = name.partition(".")[0]
        for imported in imports(path, source):
            if door in {"http", "cli"}:
                room = imported.partition(".")[0]
                besides = BESIDES.get(name, set())
                allowed = imported in INSIDE or room == door or room in besides
                allowed = allowed or imported in besides
            else:
                assert name in ALLOWED, f"give {name} its row in {__file__}"
                allowed = imported in ALLOWED[name]
            if not allowed:
                found.append(f"{name or '__init__'} imports {imported or 'otpseal'}")
    return found


def test_the_house_stands() -> None:
    """Every module imports only from the rows above its own."""
    assert [] == violations(SOURCE)


def test_libraries_stay_where_they_belong() -> None:
    """Only `totp` imports pyotp, only `http` the web, only the adapters SQL."""
    expected = {
        "pyotp": {"totp"},
        "fastapi": {"http"},
        "sqlalchemy": {"adapters"},
    }

    found: dict[str, set[str]] = {library: set() for library in expected}
    for name, path in modules(SOURCE):
        for imported in imported_names(path):
            library = imported.partition(".")[0]
            if library in found:
                found[library].add(name.partition(".")[0])

    assert expected == found


def test_a_planted_violation_is_found(tmp_path: Path) -> None:
    """The check can fail: each kind of forbidden import is named, wherever it hides."""
    for name, text in {
        "errors.py": "",
        "service.py": "from otpseal import authority\n",
        "authority.py": "",
        "throttle.py": "def f():\n    import otpseal.service\n",
        "adapters/sql_store.py": "from otpseal.adapters import sql_schema, file_keys\n",
        "adapters/sql_schema.py": "",
        "adapters/file_keys.py": "from otpseal.adapters.authority_client import ask\n",
        "adapters/authority_client.py": "",
        "committer.py": "from otpseal.wiring import open_service\n",
        "wiring.py": "from otpseal.http.app import make_app\n",
        "http/app.py": "from otpseal.cli.serve import run\n",
        "cli/serve.py": "from otpseal.http.app import make_app\n",
        "cli/code.py": "from otpseal.adapters.sql_store import SqlStore\n",
        "http/auth.py": "import otpseal.errors\nfrom otpseal import service\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    found = violations(tmp_path)

    assert [
        "adapters.file_keys imports adapters.authority_client",
        "adapters.sql_store imports adapters.file_keys",
        "cli.code imports adapters.sql_store",
        "committer imports wiring",
        "http.app imports cli.serve",
        "service imports authority",
        "throttle imports service",
        "wiring imports http.app",
    ] == found
