"""Everything technical of billing: binding to the log, projection into Redis. No rules."""
