"""Rules of the gateway: values in, values out. No clock, randomness, IO."""
