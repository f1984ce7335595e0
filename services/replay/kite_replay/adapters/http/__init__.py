"""The HTTP surface of replay."""
