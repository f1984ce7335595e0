"""Billing's use cases: inputs in, facts out. No client types, no topics of others."""
