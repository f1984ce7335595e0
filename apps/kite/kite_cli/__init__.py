"""The command line of Kite: local stack, administration, measurements. Calls service mains, holds no rules."""
