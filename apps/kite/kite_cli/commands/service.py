"""`kitectl gateway`, `billing`, `delivery`, `replay`, `facilitator`: one service in the foreground, as a container runs it."""

from collections.abc import Callable
from typing import Final

import typer

_DOES: Final = {
    "gateway": "takes messages in over HTTP",
    "billing": "charges accounts",
    "delivery": "sends webhooks",
    "replay": "keeps the archive and answers GET /api/v1/events",
    "facilitator": "verifies and settles x402 payments on the chain",
}


def register(app: typer.Typer) -> None:
    """Add a command for each service."""
    for service, does in _DOES.items():
        example = f"Example: KITE_KAFKA_BOOTSTRAP=kafka:9092 KITE_REDIS_URL=redis://redis:6379/0 kitectl {service}"
        text = (
            f"Run the service that {does}, in the foreground, until SIGTERM.\n\n"
            f"Settings come from the environment alone (KITE_*, X402_*); `kitectl config check {service}` lists and checks them. "
            "Wrong settings: exit code 78. Its log, JSON lines, goes to standard output."
        )
        app.command(service, help=text, epilog=example)(_runner(service))


def _runner(service: str) -> Callable[[], None]:
    def run_service() -> None:
        from kite_cli.services import main_of

        raise typer.Exit(main_of(service)() or 0)

    return run_service
