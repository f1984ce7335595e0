"""Hypothesis without a deadline: on a busy machine time says nothing about the code, so it decides no test."""

from hypothesis import settings

settings.register_profile("kite", deadline=None, print_blob=True)
settings.load_profile("kite")
