"""Settling: one call an authorization at a time, and when to begin anew."""
