"""The OpenAPI document of the surface, put together from what each route file says of its routes. Knows no route itself.

Every route is described in the same way, whether FastAPI, Starlette or another service answers it; a test holds the routes of the app
against the document, and the error codes against the one list.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from kite_common import VERSION
from kite_common.auth import Needed
from kite_common.errors import CODES
from kite_gateway.adapters.http.openapi_payments import HEADERS, PAYMENT_REQUIRED, PAYMENT_REQUIRED_SCHEMA, headers_of

BEARER_CODES: Final = (
    "missing_team_id", "unauthorized", "forbidden", "insufficient_permissions", "rate_limit_exceeded", "internal_error", "overloaded",
    "service_unavailable",
)  # fmt: skip
BODY_CODES: Final = ("invalid_json", "payload_too_large", "unsupported_media_type")
_REF: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query, header or path parameter."""

    name: str
    place: str
    description: str
    required: bool = False
    schema: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `permission` None = public; `codes` are its own beside those its kind has anyway.

    `statuses`: codes this route answers with another status than usual.
    `answer` is a model, or the schema itself where another service answers; `other_answers` are those of other statuses below 400.
    `bodies` are the media types of a body that may hold anything, instead of `request`. `takes_payment`: it may be paid with x402.
    """

    method: str
    path: str
    summary: str
    description: str
    status: int = 200
    permission: Needed | None = None
    request: type[BaseModel] | None = None
    answer: type[BaseModel] | Mapping[str, Any] | None = None
    codes: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()
    media_type: str = _JSON
    bodies: Sequence[str] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    other_answers: Mapping[int, tuple[str, Sequence[type[BaseModel]]]] = field(default_factory=dict)
    takes_payment: bool = False
    body_is_optional: bool = False

    @property
    def models(self) -> Sequence[object]:
        """Whatever describes its bodies; models among them become schemas of the document."""
        return (self.request, self.answer, *(model for _, models in self.other_answers.values() for model in models))

    @property
    def all_codes(self) -> list[str]:
        """Every error code the route can answer, in the order of the list of codes."""
        own = {*self.codes, *(BEARER_CODES if self.permission else ()), *(BODY_CODES if self.request or self.bodies else ())}
        return [code for code in CODES if code in own]

    def status_of(self, code: str) -> int:
        """The status this route answers a code with."""
        return self.statuses.get(code, CODES[code].status)


def document(operations: Sequence[Operation], public_url: str | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations; equal input gives an equal document, in the order of the operations."""
    models = {model for operation in operations for model in operation.models if isinstance(model, type)}
    _, definitions = models_json_schema(
        [(model, "serialization") for model in sorted(models, key=lambda model: model.__name__)], ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kite",
            "version": VERSION,
            "description": "An open relay for agent messages and webhooks. Errors have a stable code in `error` and prose in `message`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        **({"servers": [{"url": public_url}]} if public_url else {}),
        "paths": paths,
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "API key `kite_<8 hex>_<32 hex>`"}},
            "headers": dict(HEADERS),
            "schemas": {
                **definitions.get("$defs", {}), PAYMENT_REQUIRED: dict(PAYMENT_REQUIRED_SCHEMA), "Error": _error_schema(operations),
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.method.lower() + operation.path.removeprefix("/api/v1").title().translate(str.maketrans("", "", "/-{}._")),
        "summary": operation.summary,
        "description": operation.description + (f" Needs permission `{operation.permission}`." if operation.permission else ""),
        "security": [{"apiKey": []}] if operation.permission else [],
        "parameters": [_parameter(parameter) for parameter in _parameters(operation)],
        "responses": {str(operation.status): _success(operation)} | _others(operation) | _errors(operation),
    }
    if operation.request is not None:
        described["requestBody"] = {"required": not operation.body_is_optional, "content": {_JSON: {"schema": _ref(operation.request)}}}
    elif operation.bodies:
        described["requestBody"] = {"content": {media_type: {"schema": {}} for media_type in operation.bodies}}
    return described


def _parameters(operation: Operation) -> Iterable[Parameter]:
    if operation.permission:
        yield Parameter("team_id", "query", "The team; must be the API key's.", required=True)
    yield from operation.parameters


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema or {"type": "string"}),
    }


def _success(operation: Operation) -> dict[str, Any]:
    answer = operation.answer
    schema: dict[str, Any] = _ref(answer) if isinstance(answer, type) else dict(answer or {})
    content = {operation.media_type: {"schema": schema}}
    return {"description": operation.summary, "headers": _headers(operation, operation.status), "content": content}


def _others(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": told,
            "headers": _headers(operation, status),
            "content": {_JSON: {"schema": {"anyOf": [_ref(model) for model in models]}}},
        }
        for status, (told, models) in operation.other_answers.items()
    }


def _errors(operation: Operation) -> dict[str, Any]:
    by_status = sorted(operation.all_codes, key=operation.status_of)
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {CODES[code].message}" for code in group),
            "headers": _headers(operation, status),
            "content": {_JSON: {"schema": {"allOf": [{"$ref": _REF.format(model=_model(operation, status))}, _one_of(group)]}}},
        }
        for status, group in ((status, list(group)) for status, group in groupby(by_status, key=operation.status_of))
    }


def _headers(operation: Operation, status: int) -> dict[str, Any]:
    is_limited = "rate_limit_exceeded" in operation.all_codes and status not in (401, 403)
    return headers_of(status, is_limited=is_limited, takes_payment=operation.takes_payment)


def _model(operation: Operation, status: int) -> str:
    return PAYMENT_REQUIRED if operation.takes_payment and status == 402 else "Error"


def _one_of(codes: Sequence[str]) -> dict[str, Any]:
    return {"properties": {"error": {"enum": list(codes)}}}


def _error_schema(operations: Sequence[Operation]) -> dict[str, Any]:
    used = {code for operation in operations for code in operation.all_codes}
    return {
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": {"type": "string", "enum": [code for code in CODES if code in used]},
            "message": {"type": "string", "description": "Prose for people; changes without notice."},
            "retry_after_secs": {"type": "integer", "minimum": 1, "description": "As in the header Retry-After."},
            "transaction": {"type": "string", "description": "Of a payment that was taken before or is pending; empty if none is known."},
            "paymentId": {"type": "string", "description": "Of settlement_pending: the payment's name, to ask an operator for it."},
        },
        "additionalProperties": True,
    }


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
