"""What an edge must not load: the facilitator's libraries take a second and 30 MB, and can sign."""

import subprocess
import sys

import pytest

_FORBIDDEN = ("web3", "eth_account", "x402.mechanisms", "jsonschema")
_LOOK = """
import importlib, pkgutil, sys
import kite_common.x402
names = [found.name for found in pkgutil.walk_packages(kite_common.x402.__path__, "kite_common.x402.")]
for name in [*names, "kite_common.x402_settings", "kite_common.projection.payments"]:
    importlib.import_module(name)
print(len(names), *(name for name in sys.modules if name in sys.argv[1:] or name.startswith("x402.mechanisms")))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """How many modules were imported, and which of the forbidden ones came with them."""
    ran = subprocess.run([sys.executable, "-c", _LOOK, *_FORBIDDEN], capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.split()


def test_the_edges_payment_code_loads_nothing_that_signs_or_talks_to_a_chain(loaded: list[str]) -> None:
    assert int(loaded[0]) >= 12
    assert loaded[1:] == []


def test_the_look_would_find_them() -> None:
    look = _LOOK.replace("import kite_common.x402\n", "import kite_common.x402, x402.mechanisms.evm\n")
    ran = subprocess.run([sys.executable, "-c", look, *_FORBIDDEN], capture_output=True, text=True, check=True, timeout=60)
    assert "web3" in ran.stdout.split()
