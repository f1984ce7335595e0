"""Puts the facilitator together: settings in, components out. No rules, no effect on import; web3 is loaded by `build` alone."""

import sys

from kite_common.errors import ConfigurationError
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import HttpServer
from kite_common.runtime.loop_watch import LoopWatch
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.x402.networks import parse_address
from kite_common.x402_settings import asset_in
from kite_facilitator.adapters.http.app import Desk, create_app
from kite_facilitator.adapters.watch import Watch
from kite_facilitator.application.gas import Gas
from kite_facilitator.application.settle_once import Settlements
from kite_facilitator.domain.order import Served
from kite_facilitator.settings import FacilitatorSettings, parse_private_key


def build(settings: FacilitatorSettings) -> list[Component]:
    """The components in the order they start; they stop in reverse, so what was begun ends before the chain is left."""
    try:
        from kite_facilitator.adapters.node import Node
        from kite_facilitator.adapters.sdk import SdkChain
    except ImportError:
        raise ConfigurationError(["web3 is not installed: install kite-relay with its extra `facilitator`"]) from None

    metrics, asset = Metrics(), asset_in(settings)
    metrics.up("facilitator")
    key = parse_private_key(settings.x402_facilitator_evm_private_key.get_secret_value())
    chain = SdkChain(Node(key, settings.x402_facilitator_rpc_url, settings.x402_facilitator_confirm_s), asset)
    gas, settlements = Gas(chain, settings.x402_facilitator_gas_floor_wei), Settlements(chain)
    watch = Watch(chain, asset.chain_id, gas, settlements, metrics)
    served = Served(asset, frozenset(map(parse_address, (settings.x402_pay_to, *settings.x402_pay_to_retired))))
    token = settings.x402_facilitator_token
    desk = Desk(
        served, chain, settlements, gas, watch.check, chain.signer, chain.supported(), metrics,
        None if token is None else token.get_secret_value(),
    )  # fmt: skip
    components: list[Component] = [LoopWatch(metrics), watch]
    app = create_app(desk, lambda: readiness_of(components))
    components.append(HttpServer(app, host=settings.host, port=settings.port, drain_timeout_s=settings.drain_timeout_s))
    return components


def main() -> int:
    """Run the facilitator until it is told to stop; the exit code, 75 if only a new process helps."""
    return run_service("facilitator", FacilitatorSettings, build)


if __name__ == "__main__":
    sys.exit(main())
