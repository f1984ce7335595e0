"""contracts/openapi.json is what the gateway serves, holds what replay says of its routes, and names every route and error code."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from kite_common.errors import CODES
from kite_gateway.adapters.http.app import openapi_document

ROOT = Path(__file__).parents[2]
STORED = ROOT / "contracts" / "openapi.json"
PUBLIC = {"/api/v1/plans", "/api/v1/bootstrap/x402"}
METHODS = {"get", "put", "post", "delete", "head"}


def _operations() -> list[dict[str, Any]]:
    return [operation for methods in openapi_document()["paths"].values() for operation in methods.values()]


def test_the_stored_document_is_the_served_one() -> None:
    stored = orjson.loads(STORED.read_bytes())
    assert stored == openapi_document(), "run `make openapi` and look at the difference"


def test_both_services_say_what_is_stored() -> None:
    check = subprocess.run([sys.executable, "scripts/write_openapi.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stderr) == (0, "")


def test_what_replay_answers_is_in_the_document_with_its_schema() -> None:
    events = openapi_document()["paths"]["/api/v1/events"]["get"]
    row = events["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["events"]["items"]
    assert set(row["required"]) == {"event_id", "created_at", "event"}
    filters = {"type", "agent", "from", "to"}
    assert {parameter["name"] for parameter in events["parameters"]} == {"team_id", "since", "limit", "payment-signature"} | filters
    assert {"400", "401", "403", "410", "429", "500", "503"} <= set(events["responses"])


def test_every_reference_leads_somewhere() -> None:
    document = openapi_document()
    parts = {f"#/components/{kind}/{name}" for kind in ("schemas", "headers") for name in document["components"][kind]}
    assert [ref for ref in _refs(document) if ref not in parts] == []


def test_operation_ids_are_unique_and_methods_are_methods() -> None:
    ids = [operation["operationId"] for operation in _operations()]
    assert len(ids) == len(set(ids))
    assert {method for methods in openapi_document()["paths"].values() for method in methods} <= METHODS


def test_every_error_code_has_a_route_and_its_status() -> None:
    named: set[str] = set()
    for operation in _operations():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                codes = answer["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"]["enum"]
                # One code has another status where it means that there is nothing to show (wire contract, section 4).
                assert {CODES[code].status for code in codes if (code, status) != ("no_active_subscription", "404")} <= {int(status)}
                named |= set(codes)
    # What any path can meet with another method is no operation's own.
    assert set(CODES) - named == {"method_not_allowed"}


def test_every_bearer_route_says_so_and_takes_a_team() -> None:
    for path, methods in openapi_document()["paths"].items():
        for operation in methods.values():
            is_bearer = path.startswith("/api/v1/") and path not in PUBLIC
            assert bool(operation["security"]) == is_bearer
            assert any((one["name"], one["in"]) == ("team_id", "query") for one in operation["parameters"]) == is_bearer


def test_what_may_be_paid_for_says_what_to_pay_and_what_was_paid() -> None:
    paid = {
        f"{method} {path}" for path, methods in openapi_document()["paths"].items() for method, operation in methods.items()
        if "payment-signature" in [one["name"] for one in operation["parameters"]]
    }  # fmt: skip
    assert paid == {
        "post /api/v1/bootstrap/x402", "post /api/v1/wallet/invoices", "get /api/v1/events", "post /api/v1/agents/messages",
        "post /hooks/{team_id}/{source}", "post /hooks/{team_id}/{source}/{hook_token}",
    }  # fmt: skip
    for name in paid:
        method, path = name.split()
        responses = openapi_document()["paths"][path][method]["responses"]
        assert "payment-required" in responses["402"]["headers"], name
        assert responses["402"]["content"]["application/json"]["schema"]["allOf"][0]["$ref"].endswith("/PaymentRequired"), name
        assert "payment-response" in responses[min(responses, key=int)]["headers"], name


def _refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in _refs(value)]
    return [ref for value in node for ref in _refs(value)] if isinstance(node, list) else []
