"""The rules of delivery as pure functions and values: no clock, no randomness, no IO."""
