"""Everything technical of the facilitator: HTTP, the SDK, the node. No rules."""
