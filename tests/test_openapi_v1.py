"""The OpenAPI document tells the truth about the v1 API: its calls and every answer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest
from conftest import TurnedClock
from schemathesis_run import run_schemathesis
from server_fixture import sealed_to
from v1_fixture import V1, served_v1

from otpseal.account_id import is_account_id
from otpseal.account_state import Status
from otpseal.adapters.file_keys import RsaKeys
from otpseal.http import v1_schemas

EVERY_CALL = {"401", "403", "405", "429", "500", "503"}
EVERY_BODY = {"400", "413", "415", "422"}
VERBS = ("confirm", "resync", "enable", "disable", "replace", "recovery-codes", "code")


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys) -> Iterator[V1]:
    """A service with an account that the document's examples name."""
    directory = tmp_path_factory.mktemp("v1")
    with served_v1(directory, service_keys, TurnedClock(time.time())) as made:
        made.enrol("shop/alice")
        yield made


@pytest.fixture(scope="module")
def document(v1: V1) -> Any:  # noqa: ANN401 - JSON
    """The document as it is served."""
    return v1.get("/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:  # noqa: ANN401 - JSON
    """Give method, path and operation of every v1 call."""
    for path, found in document["paths"].items():
        if path.startswith("/v1/"):
            for method, operation in found.items():
                yield method.upper(), path, operation


def test_the_documents_calls_are_the_routes(v1: V1, document: Any) -> None:  # noqa: ANN401
    """Each that is documented is there; of all verbs and paths none is left out."""
    documented = {(method, path) for method, path, _ in operations(document)}
    paths = {"/v1/verify", "/v1/recover", "/v1/accounts", "/v1/events"}
    paths |= {"/v1/envelopes", "/v1/receipts/{digest}"}
    paths |= {f"/v1/accounts/{{id}}:{verb}" for verb in VERBS} | {"/v1/accounts/{id}"}
    routes = set()
    for path in paths:
        reply = v1.ask("PATCH", path.replace("{id}", "shop/alice"))
        assert reply.status == 405
        methods = (reply.header("allow") or "").split(", ")
        routes |= {(method, path) for method in methods}

    assert documented == routes


def test_statuses_and_examples(document: Any) -> None:  # noqa: ANN401 - JSON
    """Every call: all refusals as problems; an example for each body and answer."""
    for method, path, operation in operations(document):
        responses = operation["responses"]
        body = EVERY_BODY if method == "POST" else set()
        assert set(responses) >= EVERY_CALL | body, path
        for status, response in responses.items():
            if status == "204":
                assert "content" not in response
            elif status.startswith("2"):
                assert response["content"]["application/json"]["examples"], path
            else:
                assert "application/problem+json" in response["content"]
                assert response["description"]
        if method == "POST":
            assert operation["requestBody"]["content"]["application/json"]["examples"]
        assert "Needs the scope `" in operation["description"]
        assert operation["security"] == [{"token": []}, {"certificate": []}]


def test_examples_have_their_own_forms() -> None:
    """Each example is an instance of what it is an example of."""
    for model in v1_schemas.MODELS:
        extra = model.model_config.get("json_schema_extra") or {}
        assert isinstance(extra, dict)
        for example in extra.get("examples", []):  # type: ignore[union-attr]
            model.model_validate(example)
        if "extra" in model.model_config:
            with pytest.raises(pydantic.ValidationError):
                model.model_validate({"surprise": 1})


def test_the_forms_are_the_codes() -> None:
    """Patterns and enumerations in the document are those of the rules."""
    import re

    for name in ("a", "shop/a.b_c@d-e", "A", "a//b", "/a", "a/", "", "a:b", "\u017f"):
        assert is_account_id(name) == bool(re.search(v1_schemas.ID_PATTERN, name))
    states = get_args(v1_schemas.Account.model_fields["state"].annotation)
    assert set(states) == {status.value for status in Status}


def test_references_resolve(document: Any) -> None:  # noqa: ANN401 - JSON
    """Every schema that is named is there."""
    import json
    import re

    named = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(named) <= set(document["components"]["schemas"])


def test_schemathesis(v1: V1, tmp_path: Path) -> None:
    """Whatever the document allows or forbids is answered as it says.

    Every check that schemathesis has, in all its phases, with a real token.
    """
    report = run_schemathesis(
        f"http://127.0.0.1:{v1.here.port}",
        tmp_path,
        "--include-path-regex=^/v1/",
        # Its place is taken by a check that knows what no schema can say.
        "--exclude-checks=not_a_server_error,positive_data_acceptance",
        f"--header=Authorization: Bearer {v1.token}",
        "--max-examples=15",
        "--seed=1",
        "--max-time=20",
    )

    assert "16 selected" in report, report


def test_schemathesis_would_see_a_fault(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Negative control: with a seed that does not decrypt the same run fails."""
    with served_v1(tmp_path, service_keys, clock) as v1:
        sealed = sealed_to(service_keys)
        v1.post("/v1/accounts", {"id": "shop/alice", "sealed_seed": sealed})
        with v1.here.opened.store.transaction() as tx:
            connection = tx._connection  # type: ignore[attr-defined]
            connection.exec_driver_sql("UPDATE accounts SET sealed_seed = x'02'")

        with pytest.raises(AssertionError, match="seed_unreadable"):
            run_schemathesis(
                f"http://127.0.0.1:{v1.here.port}",
                tmp_path,
                "--include-path=/v1/verify",
                f"--header=Authorization: Bearer {v1.token}",
                "--max-examples=2",
                "--phases=examples",
            )
