"""Delivery as a process of its own, for tests that kill it: `python delivery_process.py <prefix>`, settings from the environment."""

import sys
from functools import partial

from kite_common.runtime.supervisor import run_service
from kite_delivery.main import build
from kite_delivery.settings import DeliverySettings

if __name__ == "__main__":
    sys.exit(run_service("delivery", DeliverySettings, partial(build, prefix=sys.argv[1])))
