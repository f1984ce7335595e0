"""What replay says of its routes, read as operations of the gateway; and what the proxy leaves out of requests and answers."""

from typing import Any

import pytest

from kite_gateway.adapters.http.proxy import routes
from kite_gateway.adapters.http.replay_contract import OPERATIONS, operations_of


def _described(**changes: Any) -> dict[str, Any]:
    parameter = {"in": "query", "required": False, "schema": {"type": "string"}, "description": "text"}
    described = {
        "summary": "Read things", "security": [{"bearer": []}],
        "parameters": [{**parameter, "name": "team_id"}, {**parameter, "name": "since"}],
        "responses": {
            "200": {"description": "Things", "content": {"application/json": {"schema": {"type": "array"}}}},
            "400": {"description": "`invalid_cursor`, `invalid_limit` with `no_code_at_all`", "content": {}},
            "410": {"description": "`cursor_expired`, unlike `invalid_cursor`", "content": {}},
        },
    } | changes  # fmt: skip
    return {"paths": {"/api/v1/things": {"get": described}}}


def test_an_operation_keeps_its_schema_and_gets_the_codes_of_each_status() -> None:
    (found,) = operations_of(_described())
    assert (found.method, found.path, found.status, found.permission) == ("GET", "/api/v1/things", 200, "read")
    assert found.answer == {"type": "array"}
    assert list(found.codes) == ["invalid_cursor", "invalid_limit", "cursor_expired", "replay_unavailable"]


def test_the_team_is_the_gateways_own_parameter() -> None:
    (found,) = operations_of(_described())
    assert [parameter.name for parameter in found.parameters] == ["since"]


@pytest.mark.parametrize(("method", "security", "permission"), [("post", [{"bearer": []}], "write"), ("get", [], None)])
def test_the_permission_follows_from_method_and_security(method: str, security: list[Any], permission: str | None) -> None:
    described = _described(security=security)["paths"]["/api/v1/things"]["get"]
    (found,) = operations_of({"paths": {"/api/v1/things": {method: described}}})
    assert found.permission == permission


def test_a_status_that_names_no_code_is_a_defect() -> None:
    responses = {**_described()["paths"]["/api/v1/things"]["get"]["responses"], "404": {"description": "Nothing there", "content": {}}}
    with pytest.raises(ValueError, match="404"):
        list(operations_of(_described(responses=responses)))


def test_exactly_what_replay_names_is_passed_on() -> None:
    nothing: Any = None
    passed = {(method, route.path) for route in routes(nothing, nothing) for method in route.methods or ()}
    assert passed == {(operation.method, operation.path) for operation in OPERATIONS}
    assert ("GET", "/api/v1/events") in passed
