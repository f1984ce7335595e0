"""What the replay service says of its routes, as the gateway's own operations. Calls nothing; the proxy answers by it.

`replay_openapi.json` is written from the replay service's code by scripts/write_openapi.py and held against it by a test, so services
need not import each other, and the document served needs no other service to be up.
"""

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import orjson

from kite_common.auth import Needed
from kite_common.errors import CODES
from kite_gateway.adapters.http.openapi import Operation, Parameter

FILE: Final = "replay_openapi.json"
# What the gateway answers when replay does not.
_ABSENT: Final = "replay_unavailable"
# An OpenAPI document has no place for error codes: replay names them in the description of each status.
_IN_BACKTICKS: Final = re.compile(r"`([a-z_]+)`")


def operations_of(document: Mapping[str, Any]) -> Iterator[Operation]:
    """The operations of an OpenAPI document, in its order. Raises ValueError for an error status that names none of its codes."""
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield _operation(method.upper(), path, described)


def _operation(method: str, path: str, described: Mapping[str, Any]) -> Operation:
    responses = {int(status): response for status, response in described["responses"].items()}
    status = min(responses)
    codes = [code for each, response in responses.items() if each >= 400 for code in _codes(each, response["description"])]
    return Operation(
        method, path, described["summary"], responses[status]["description"] + ".", status=status,
        permission=_permission(method, described),
        answer=responses[status]["content"]["application/json"]["schema"], codes=(*codes, _ABSENT),
        parameters=tuple(_parameter(one) for one in described.get("parameters", ()) if one["name"] != "team_id"),
        takes_payment=402 in responses,
    )  # fmt: skip


def _permission(method: str, described: Mapping[str, Any]) -> Needed | None:
    """By the rule of the public API: bearer routes that only read need `read`, all others `write`."""
    if not described.get("security"):
        return None
    return "read" if method in ("GET", "HEAD") else "write"


def _codes(status: int, description: str) -> list[str]:
    codes = [name for name in _IN_BACKTICKS.findall(description) if name in CODES and CODES[name].status == status]
    if not codes:
        raise ValueError(f"replay names no error code for status {status}")
    return codes


def _parameter(described: Mapping[str, Any]) -> Parameter:
    return Parameter(described["name"], described["in"], described["description"], described["required"], described["schema"])


def _shipped() -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(resources.files("kite_gateway.adapters.http").joinpath(FILE).read_bytes())
    return document


OPERATIONS: Final = tuple(operations_of(_shipped()))
