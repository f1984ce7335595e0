"""The engine's library is there before any part of replay runs.

Story: on a busy machine loading it took 8 s inside a running group member, which took itself for frozen and ended, at every start anew.
"""

import os
import subprocess
import sys

PROGRAM = """
import sys
from kite_common.config import load
from kite_replay.main import build
from kite_replay.settings import ReplaySettings
assert "chdb" not in sys.modules
build(load(ReplaySettings))
print("chdb" in sys.modules)
"""


def loaded(url: str) -> str:
    environment = {**os.environ, "KITE_CLICKHOUSE_URL": url, "KITE_API_KEY_PEPPER": "p" * 32}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_an_engine_in_the_process_is_loaded_before_anything_runs() -> None:
    assert loaded("chdb:///nowhere/clickhouse") == "True"


def test_a_server_needs_no_engine_here() -> None:
    assert loaded("http://127.0.0.1:1/kite") == "False"
