"""The use cases of replay over its ports; no client libraries, no HTTP words."""
