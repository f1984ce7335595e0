"""One payment key: which facts lead to which events and effects, and what each event makes of its record. No IO, no clock, no randomness.

`decide.decide` is the way in; a record changes by `evolve.evolve` alone. Unclear is never "failed"; a credit follows the chain.
"""
