"""The SDK with its signer, and HTTP."""
