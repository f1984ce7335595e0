"""Puts the facilitator together: settings in, components out. No rules, no effect on import."""

import os
import sys
from typing import Final

from kite_common.errors import ConfigurationError
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import HttpServer
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.x402.networks import parse_address
from kite_common.x402_settings import asset_of_settings, facilitator_problems
from kite_facilitator.adapters.gas import GasGauge
from kite_facilitator.adapters.http import Surface, create_app
from kite_facilitator.adapters.restarts import GapWatch
from kite_facilitator.adapters.sdk import SdkChain
from kite_facilitator.application.settle_once import SettleOnce
from kite_facilitator.domain.scope import Scope
from kite_facilitator.settings import FacilitatorSettings

SERVICE: Final = "facilitator"
# sysexits.h: start it again.
EXIT_AGAIN: Final = os.EX_TEMPFAIL


class Facilitator:
    """One run: what is built, and how it ended."""

    def __init__(self) -> None:
        self._settle: SettleOnce | None = None

    def build(self, settings: FacilitatorSettings) -> list[Component]:
        """The components in the order they start. Raises ConfigurationError."""
        problems = facilitator_problems(settings)
        if problems:
            raise ConfigurationError(problems)
        metrics, asset = Metrics(), asset_of_settings(settings)
        metrics.up(SERVICE)
        chain = SdkChain(
            settings.x402_facilitator_evm_private_key.get_secret_value(), settings.x402_facilitator_rpc_url, asset.network,
            settings.x402_facilitator_confirm_s,
        )  # fmt: skip
        paid = (settings.x402_pay_to or "", *settings.x402_pay_to_retired)
        scope = Scope(asset.network, asset.v1_network, asset.address, frozenset(map(parse_address, paid)))
        settle, gas = SettleOnce(chain), GasGauge(chain, settings.x402_facilitator_gas_floor_wei, metrics)
        self._settle, token = settle, settings.x402_facilitator_token
        components: list[Component] = [gas, GapWatch(settle)]
        app = create_app(Surface(
            chain, settle, gas, scope, chain.address, chain.supported(), None if token is None else token.get_secret_value().encode(),
            lambda: readiness_of(components), metrics,
        ))  # fmt: skip
        components.append(HttpServer(app, host=settings.host, port=settings.port, drain_timeout_s=settings.drain_timeout_s))
        return components

    def exit_code(self, code: int) -> int:
        """The code of the process."""
        return EXIT_AGAIN if code and self._settle is not None and self._settle.gap.is_set() else code


def build(settings: FacilitatorSettings) -> list[Component]:
    """The components of a facilitator."""
    return Facilitator().build(settings)


def main() -> int:
    """Run the facilitator until it is told to stop; the exit code, 75 if it wants to begin anew."""
    run = Facilitator()
    return run.exit_code(run_service(SERVICE, FacilitatorSettings, run.build))


if __name__ == "__main__":
    sys.exit(main())
