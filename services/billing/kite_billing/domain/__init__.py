"""Billing's rules: pure functions and values. No clock, randomness, environment, IO or async."""
