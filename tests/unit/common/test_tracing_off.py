"""Without a collector no service loads what exports traces."""

import os
import subprocess
import sys

import pytest

_BUILD = """
import asyncio, sys
from kite_common.config import load
from kite_cli.services import main_of, settings_of
main = main_of(sys.argv[1])
settings = load(settings_of(sys.argv[1]))
async def build():
    sys.modules[main.__module__].build(settings)
asyncio.run(build())
kinds = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf", "kite_common.runtime.span_export")
print(sorted(name for name in sys.modules if name.startswith(kinds)))
"""
_SETTINGS = {
    "KITE_API_KEY_PEPPER": "a pepper of sixteen characters", "KITE_WEBHOOK_SECRET_CIPHER_KEY": "0" * 64,
    "KITE_CLICKHOUSE_URL": "http://127.0.0.1:1/kite",
}  # fmt: skip


def loaded_by(service: str, **settings: str) -> str:
    """What of the exporter a process has loaded that has built the service."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KITE_", "OTEL_", "X402_"))}
    env = inherited | _SETTINGS | settings
    ended = subprocess.run([sys.executable, "-c", _BUILD, service], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("service", ["gateway", "billing", "delivery", "replay"])
def test_a_service_without_a_collector_loads_no_exporter(service: str) -> None:
    """FastAPI itself imports OpenTelemetry's interface and redis-py the SDK's metrics, wherever they are installed, and use neither."""
    assert loaded_by(service) == "[]"


def test_a_service_with_one_does() -> None:
    assert "opentelemetry.exporter.otlp.proto.http.trace_exporter" in loaded_by("delivery", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
