"""The facilitator's values and rules. No clock, randomness, environment, IO or async."""
