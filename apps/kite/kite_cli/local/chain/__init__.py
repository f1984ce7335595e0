"""The chain of a local stack: anvil, with a token at the canonical USDC address. Everything on it is worthless, its keys are public."""
