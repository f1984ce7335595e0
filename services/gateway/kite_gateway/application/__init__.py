"""Use cases of the gateway over its ports. No HTTP, no client libraries."""
