"""The running local stack, as tests get it."""

from dataclasses import dataclass

from kite_cli.local.stack import LocalStack


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Kafka and Valkey of this run. Tests keep apart by topics, groups and teams of their own."""

    kafka: str
    redis_url: str
    local: LocalStack
