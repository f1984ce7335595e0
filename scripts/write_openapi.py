"""Writes the OpenAPI documents: replay's part and the examples into the gateway, then the whole into contracts/openapi.json. Run it after
changing a route.

The one place that sees both services; the gateway proxies and describes exactly what replay's part names. Examples are real answers, of
the app over the fakes that tests use (tests/support/api_examples.py). `--check` writes nothing and fails if a file is not what the code
says.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import orjson
import structlog

from kite_gateway.adapters.http import openapi_examples, replay_contract
from kite_gateway.adapters.http.app import openapi_document
from kite_replay.adapters.http.app import create_app
from kite_replay.adapters.http.deliveries import DeliveriesRoutes
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute

ROOT = Path(__file__).parents[1]
GATEWAY = ROOT / "services/gateway/kite_gateway/adapters/http"
REPLAY_PART = GATEWAY / replay_contract.FILE
EXAMPLES = GATEWAY / openapi_examples.FILE
CONTRACT = ROOT / "contracts/openapi.json"


def replay_document() -> dict[str, Any]:
    """The OpenAPI document of the replay service's public routes, from its code; nothing is opened for it."""
    nothing: Any = None
    events, ledger = EventsRoute(nothing, nothing, nothing, nothing, nothing), LedgerRoute(nothing, nothing, nothing, nothing)
    deliveries = DeliveriesRoutes(nothing, nothing, nothing, nothing, nothing)
    document: dict[str, Any] = create_app(events, ledger, deliveries, operations=()).openapi()
    return document


def real_examples() -> dict[str, Any]:
    """What the gateway's app answers to the requests of tests/support."""
    # Only what was written is told.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.path.insert(0, str(ROOT / "tests"))
    from support.api_examples import real_answers

    return real_answers()


def documents() -> dict[Path, bytes]:
    """What each file must hold."""
    replay, examples = replay_document(), real_examples()
    whole = openapi_document(replay=tuple(replay_contract.operations_of(replay)), examples=examples)
    found = {REPLAY_PART: replay, EXAMPLES: examples, CONTRACT: whole}
    return {path: orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE) for path, document in found.items()}


def main() -> int:
    """Write both files, or check them; the exit code."""
    wanted = documents()
    stale = [path for path, content in wanted.items() if not path.exists() or path.read_bytes() != content]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make openapi` and look at the difference", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_bytes(wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
