"""Billing as a process of its own, for tests that kill it: `python billing_process.py <prefix>`, settings from the environment."""

import sys
from functools import partial

from kite_billing.main import build
from kite_billing.settings import BillingSettings
from kite_common.runtime.supervisor import run_service

if __name__ == "__main__":
    sys.exit(run_service("billing", BillingSettings, partial(build, prefix=sys.argv[1])))
