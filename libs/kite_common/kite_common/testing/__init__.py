"""For tests only: builders, Hypothesis strategies, waiting for a fact. Nothing outside tests imports it."""
