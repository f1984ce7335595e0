"""The x402 facilitator: verifies and settles EIP-3009 authorizations for one deployment. The only package that loads web3."""
