"""The routes of the x402 facilitator interface. No rules."""
