"""How a service runs: components, supervision, HTTP, logs and metrics, clock and randomness. No business rules."""
