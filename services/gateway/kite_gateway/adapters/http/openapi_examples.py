"""Examples of the OpenAPI document: what callers sent and what this code answered. Makes none up.

`openapi_examples.json` is written by scripts/write_openapi.py from requests to the app, and a test asks them all again.

    {"headers": {name: value}, "operations": {"POST /path": {"requests": {name: body}, "answers": {status: {name: body}}}}}
"""

from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import orjson

FILE: Final = "openapi_examples.json"
_JSON: Final = "application/json"


def with_examples(document: dict[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The document with examples in its headers, request bodies and answers. Raises KeyError for one that belongs nowhere in it."""
    for name, value in examples["headers"].items():
        document["components"]["headers"][name]["example"] = value
    for operation, shown in examples["operations"].items():
        method, _, path = operation.partition(" ")
        described = document["paths"][path][method.lower()]
        if shown["requests"]:
            described["requestBody"]["content"][_JSON]["examples"] = _named(shown["requests"])
        for status, answers in shown["answers"].items():
            described["responses"][status]["content"][_JSON]["examples"] = _named(answers)
    return document


def _named(bodies: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": body} for name, body in bodies.items()}


def _shipped() -> dict[str, Any]:
    examples: dict[str, Any] = orjson.loads(resources.files("kite_gateway.adapters.http").joinpath(FILE).read_bytes())
    return examples


EXAMPLES: Final = _shipped()
