"""What all tests share: the local stack, once a run, and Hypothesis without a deadline."""

import signal
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from kite_cli.local.stack import LocalStack, StackOptions
from support.stack import RunningStack

# A run that a shell has put into the background ignores Ctrl-C, and would hand that on to the processes whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine time says nothing about the code, so it decides no test.
settings.register_profile("kite", deadline=None, print_blob=True)
settings.load_profile("kite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--containers", action="store_true", help="end-to-end tests: Kafka, Valkey and ClickHouse in containers")


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """A real broker and a real Valkey, started when the first test asks for them."""
    async with LocalStack(StackOptions(tmp_path_factory.mktemp("stack"))) as local:
        yield RunningStack(local.addresses.kafka_bootstrap, local.addresses.redis_url, local)
