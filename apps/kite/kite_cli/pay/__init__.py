"""Paying with x402: wallets of a data folder, the local faucet, and paid requests with the official Python client."""
