"""Delivery: pushes events to webhook endpoints, signed, at least once, and records every attempt. Decides nothing about money."""
