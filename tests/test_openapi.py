"""The OpenAPI document tells the truth: about the routes, and about every answer."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from schemathesis_hooks import OURS
from schemathesis_run import run_schemathesis
from server_fixture import (
    JSON_TYPE,
    Server,
    call,
    code_at,
    sealed_to,
    serving,
)

from otpseal.adapters.file_keys import RsaKeys

#: An option of schemathesis.
CLASSIC_ONLY = "--exclude-path-regex=^/v1/"

METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]


@pytest.fixture(scope="module")
def bare(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Server]:
    """The real program without a seed."""
    with serving(tmp_path_factory.mktemp("bare"), service_keys) as running:
        yield running


@pytest.fixture(scope="module")
def seeded(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Server]:
    """The real program with a seed."""
    with serving(tmp_path_factory.mktemp("seeded"), service_keys) as running:
        assert running.bring(sealed_to(service_keys)).status == 200
        yield running


@pytest.fixture(scope="module")
def document(bare: Server) -> Any:  # noqa: ANN401 - JSON
    """The document as the real program serves it."""
    return bare.get("/openapi.json").json


#: The calls of CONTRACT.md; the others are the v1 API's, see tests/test_openapi_v1.py.
CLASSIC = ["/decrypt-seed", "/generate-2fa", "/verify-2fa", "/health", "/"]


def test_the_document_lists_what_the_contract_lists(document: Any) -> None:  # noqa: ANN401
    """The five calls of CONTRACT.md, and no others but those of the v1 API."""
    found = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        if not path.startswith("/v1/")
        for method in operations
    }

    assert found == {
        ("POST", "/decrypt-seed"),
        ("GET", "/generate-2fa"),
        ("POST", "/verify-2fa"),
        ("GET", "/health"),
        ("GET", "/"),
    }


EVERY_CALL = {"401", "403", "404", "405", "429", "500", "503"}
EVERY_POST = {"400", "413", "415", "422"}


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/decrypt-seed", {"200", "409"} | EVERY_CALL | EVERY_POST),
        ("/generate-2fa", {"200"} | EVERY_CALL),
        ("/verify-2fa", {"200"} | EVERY_CALL | EVERY_POST),
        ("/health", {"200", "503"}),
        ("/", {"200"}),
    ],
)
def test_every_status_of_the_contract_is_documented(
    document: Any,  # noqa: ANN401
    path: str,
    statuses: set[str],
) -> None:
    """Also those that a stranger's requests cannot bring about."""
    (operation,) = document["paths"][path].values()

    assert set(operation["responses"]) == statuses


def test_documented_methods_answer_and_others_do_not(
    bare: Server,
    document: Any,  # noqa: ANN401
) -> None:
    """Neither 404 nor 405 for what is documented; 405 with Allow for the rest."""
    for path in CLASSIC:
        operations = document["paths"][path]
        for method in METHODS:
            reply = call(bare.port, method.upper(), path, b"{}", JSON_TYPE)
            if method in operations:
                assert reply.status not in (404, 405), (method, path)
            else:
                assert reply.status == 405, (method, path)
                allowed = {name.upper() for name in operations}
                assert {reply.header("allow")} == allowed


def test_the_routes_behind_the_socket_are_the_documents_paths(
    document: Any,  # noqa: ANN401
) -> None:
    """Compared with the code itself: a call that is added must be documented."""
    from unittest.mock import create_autospec

    from otpseal.committer import Committer
    from otpseal.config import Access
    from otpseal.http.auth import Gate
    from otpseal.http.classic import ClassicApi
    from otpseal.http.limits import WorkQueue
    from otpseal.service import Service

    classic = ClassicApi(
        create_autospec(Service),
        committer=create_autospec(Committer),
        decryptions=create_autospec(WorkQueue),
        gate=Gate(Access.OPEN),
    )

    routes = {(path, method.lower()) for path, (method, _) in classic.routes.items()}

    documented = {
        (path, method)
        for path, operations in document["paths"].items()
        for method in operations
        if path not in ("/", "/health") and not path.startswith("/v1/")
    }
    assert routes == documented


def test_references_resolve_and_refusals_are_described(document: Any) -> None:  # noqa: ANN401
    """Every schema that is named is there; every error is `{"error": text}`."""
    schemas = document["components"]["schemas"]
    for path in ("/decrypt-seed", "/generate-2fa", "/verify-2fa"):
        for operation in document["paths"][path].values():
            for status, response in operation["responses"].items():
                reference = response["content"]["application/json"]["schema"]["$ref"]
                name = reference.removeprefix("#/components/schemas/")
                assert name in schemas
                assert (name == "Refusal") == (status != "200")
    assert list(schemas["Refusal"]["properties"]) == ["error"]


def test_the_contracts_500s_are_documented(document: Any) -> None:  # noqa: ANN401
    """By their very words, so that a client's author knows them from faults."""
    for path, status, body in OURS:
        (operation,) = document["paths"][path].values()
        text = body.removeprefix(b'{"error":"').removesuffix(b'"}').decode()
        assert text in operation["responses"][str(status)]["description"]


def test_the_documents_examples_are_well_formed(seeded: Server) -> None:
    """The contract's answers have the shapes that the document gives them."""
    current = seeded.get("/generate-2fa").json

    assert sorted(current) == ["code", "valid_for"]
    assert 1 <= current["valid_for"] <= 30
    assert seeded.verify(code_at(0)).json in ({"valid": False}, {"valid": True})


@pytest.mark.parametrize("which", ["bare", "seeded"])
def test_schemathesis(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whatever the document allows or forbids is answered as it says.

    Every check that schemathesis has, in all its phases: statuses, content types,
    schemas, refused bad data, methods, headers. With a seed, wrong codes run into the
    throttle, which is documented too.
    """
    server = request.getfixturevalue(which)

    options = ("--max-examples=30", "--seed=1", "--max-time=6")
    report = run_schemathesis(server.url, tmp_path, CLASSIC_ONLY, *options)

    assert "5 selected" in report, report
    assert server.get("/generate-2fa").status == (500 if which == "bare" else 200)


def test_schemathesis_would_see_a_fault(seeded: Server, tmp_path: Path) -> None:
    """Negative control: with a row that does not decrypt, the same run fails."""
    database = seeded.directory / "data" / "otpseal.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE accounts SET sealed_seed = x'00'")

    with pytest.raises(AssertionError, match="Stored seed cannot be read"):
        run_schemathesis(
            seeded.url,
            tmp_path,
            CLASSIC_ONLY,
            "--max-examples=2",
            "--phases=coverage,fuzzing",
        )
