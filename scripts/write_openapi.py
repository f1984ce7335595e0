"""Writes the OpenAPI documents: replay's part into the gateway, then the whole into contracts/openapi.json. Run it after changing a route.

The one place that sees both services; the gateway proxies and describes exactly what replay's part names. `--check` writes nothing and
fails if a file is not what the code says.
"""

import sys
from pathlib import Path
from typing import Any

import orjson

from kite_gateway.adapters.http.app import openapi_document
from kite_gateway.adapters.http.replay_contract import FILE, operations_of
from kite_replay.adapters.http.app import create_app
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute

ROOT = Path(__file__).parents[1]
REPLAY_PART = ROOT / "services/gateway/kite_gateway/adapters/http" / FILE
CONTRACT = ROOT / "contracts/openapi.json"


def replay_document() -> dict[str, Any]:
    """The OpenAPI document of the replay service's public routes, from its code; nothing is opened for it."""
    nothing: Any = None
    events, ledger = EventsRoute(nothing, nothing, nothing, nothing, nothing), LedgerRoute(nothing, nothing, nothing, nothing)
    document: dict[str, Any] = create_app(events, ledger, operations=()).openapi()
    return document


def documents() -> dict[Path, bytes]:
    """What each file must hold."""
    replay = replay_document()
    found = {REPLAY_PART: replay, CONTRACT: openapi_document(replay=tuple(operations_of(replay)))}
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
