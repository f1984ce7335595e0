"""/openapi.json and /docs: the document, and a page of it that loads nothing from elsewhere. Describes nothing itself."""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kite_gateway.adapters.http.openapi import Operation


class Alive(BaseModel):
    """The process serves."""

    status: str = "ok"


_ALIVE: Final = "200 while the process serves."
_READY: Final = "200 when every part is ready, else 503 that names the parts that are not."
OPERATIONS: Final = (
    Operation("GET", "/health", "Liveness", _ALIVE, answer=Alive),
    Operation("HEAD", "/health", "Liveness", _ALIVE, answer=Alive),
    Operation("GET", "/livez", "Liveness", _ALIVE, answer=Alive),
    Operation("GET", "/ready", "Readiness", _READY, answer=Alive, codes=("service_unavailable",)),
    Operation("GET", "/readyz", "Readiness", _READY, answer=Alive, codes=("service_unavailable",)),
    Operation("GET", "/metrics", "Metrics", "Prometheus text format.", media_type="text/plain"),
    Operation("GET", "/openapi.json", "This document", "OpenAPI 3.1 of all HTTP routes."),
    Operation("GET", "/docs", "This document as a page", "Loads nothing from elsewhere.", media_type="text/html"),
)

_STYLE: Final = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}details{border:1px solid #8885;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}summary{cursor:pointer}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow:auto;background:#8881;padding:.6rem;border-radius:4px}
.m{display:inline-block;min-width:4.5rem;font-weight:700}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-top:1px solid #8883}
"""
# No script, no font, no image: the page needs nothing but its own style.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def routes(document: Mapping[str, Any]) -> list[Route]:
    """Both routes; the answers are made once."""
    as_json = orjson.dumps(document)
    page = render(document)

    async def openapi(_request: Request) -> Response:
        return Response(as_json, media_type="application/json")

    async def docs(_request: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def render(document: Mapping[str, Any]) -> str:
    """The page of a document: every operation folded, with parameters, bodies and errors; then the schemas."""
    info = document["info"]
    operations = "".join(
        _operation(path, method, operation) for path, methods in document["paths"].items() for method, operation in methods.items()
    )
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} API</h1><p>Version {escape(info['version'])}. {_prose(info['description'])} "
        f'Machine-readable: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<h2>Routes</h2>{operations}<h2>Schemas</h2>{schemas}</html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parameters = [_parameter(parameter) for parameter in operation["parameters"]]
    answers = [(status, answer["description"]) for status, answer in operation["responses"].items()]
    return (
        f'<details><summary><span class="m">{escape(method.upper())}</span> <code>{escape(path)}</code> {escape(operation["summary"])}'
        f"</summary><p>{_prose(operation['description'])}</p>{_table('Parameter', parameters)}{_body(operation)}"
        f"{_table('Answer', answers)}{_examples(operation)}</details>"
    )


def _examples(operation: Mapping[str, Any]) -> str:
    """Real requests and answers, each folded."""
    places = [("request", operation.get("requestBody", {})), *operation["responses"].items()]
    shown = [
        f"<details><summary>Example: {escape(place)} <code>{escape(name)}</code></summary>{_json(example['value'])}</details>"
        for place, described in places
        for content in described.get("content", {}).values()
        for name, example in content.get("examples", {}).items()
    ]
    return "".join(shown)


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str]:
    name = f"{parameter['name']} ({parameter['in']})"
    return name, parameter["description"] + (" Required." if parameter["required"] else "")


def _body(operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody")
    if body is None:
        return ""
    name = body["content"].get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
    if not name:
        return f"<p>Body: {_prose(', '.join(f'`{media_type}`' for media_type in body['content']))}</p>"
    return f'<p>Body: <a href="#{escape(name)}"><code>{escape(name)}</code></a></p>'


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{_prose(text)}</td></tr>" for name, text in rows)
    return f"<table><tr><th>{title}</th><th></th></tr>{cells}</table>"


def _prose(text: str) -> str:
    """Escaped text; what stands in backticks becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _json(schema: Any) -> str:
    return f"<pre>{escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())}</pre>"
