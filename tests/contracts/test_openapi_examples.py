"""Examples of the OpenAPI document are what the app answers, fit the document's own schemas, and can be paid by official clients."""

from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs
import pytest
from x402.http.utils import decode_payment_required_header, decode_payment_response_header
from x402.schemas.v1 import PaymentRequiredV1

from kite_common.errors import CODES
from kite_gateway.adapters.http.app import openapi_document
from kite_gateway.adapters.http.openapi_examples import EXAMPLES
from support.api_examples import real_answers

DOCUMENT: Final = openapi_document()
_JSON: Final = "application/json"


def bodies() -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Operation, name, schema and body of every example; of requests, too."""
    for operation, shown in EXAMPLES["operations"].items():
        method, _, path = operation.partition(" ")
        described = DOCUMENT["paths"][path][method.lower()]
        for name, body in shown["requests"].items():
            yield operation, name, described["requestBody"]["content"][_JSON], body
        for status, answers in shown["answers"].items():
            for name, body in answers.items():
                yield operation, f"{status} {name}", described["responses"][status]["content"][_JSON], body


ALL: Final = list(bodies())


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    return real_answers()


def test_the_examples_are_what_is_answered(answers: dict[str, Any]) -> None:
    assert answers == EXAMPLES, "run `make openapi` and look at the difference"


@pytest.mark.parametrize(("_operation", "name", "content", "body"), ALL, ids=[f"{one[0]} {one[1]}" for one in ALL])
def test_an_example_stands_in_the_document_and_fits_its_schema(_operation: str, name: str, content: dict[str, Any], body: Any) -> None:
    assert content["examples"][name.rpartition(" ")[2]] == {"value": body}
    # References lead into the document, so it is the base of each schema.
    validator = jsonschema_rs.validator_for({**content["schema"], "components": DOCUMENT["components"]})
    assert [error.message for error in validator.iter_errors(body)] == []


def test_errors_have_the_name_of_their_code_and_no_success_has_one() -> None:
    for operation, shown in EXAMPLES["operations"].items():
        for status, answers in shown["answers"].items():
            for name, body in answers.items():
                assert (name.partition(".")[0] in CODES) == (int(status) >= 400), f"{operation} {name}"
                assert int(status) < 400 or body["error"] == name.partition(".")[0]


def test_every_route_under_the_api_has_an_example_of_its_success() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method in methods if path.startswith("/api/v1/") else ():
            answers = EXAMPLES["operations"][f"{method.upper()} {path}"]["answers"]
            assert [status for status in answers if int(status) < 300], f"{method} {path}"


@pytest.mark.parametrize(
    ("operation", "codes"),
    [
        ("POST /api/v1/bootstrap/x402", {"payment_required", "invalid_payment"}),
        ("POST /api/v1/wallet/invoices", {"payment_required", "invalid_payment"}),
        ("GET /api/v1/events", {"payment_required", "invalid_payment"}), ("POST /api/v1/agents/messages", {"insufficient_funds"}),
        ("POST /hooks/{team_id}/{source}", {"insufficient_funds"}),
    ],
)  # fmt: skip
def test_routes_that_are_paid_for_show_their_402_and_clients_read_it(operation: str, codes: set[str]) -> None:
    asked = EXAMPLES["operations"][operation]["answers"]["402"]
    assert codes <= set(asked)
    for name, body in asked.items():
        read = PaymentRequiredV1.model_validate(body)
        assert (read.error, len(read.accepts)) == (name.partition(".")[0], 1)


def test_the_headers_shown_are_read_by_official_clients() -> None:
    headers = {name: described.get("example") for name, described in DOCUMENT["components"]["headers"].items()}
    offer = decode_payment_required_header(headers["payment-required"])
    assert (offer.x402_version, offer.error) == (2, "payment_required")
    told = decode_payment_response_header(headers["payment-response"])
    assert (told.success, told.network) == (True, "eip155:84532")
    assert headers["x-payment-response"] == headers["payment-response"]
