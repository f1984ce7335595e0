"""The load generator, a process of its own, so that its work is not counted as Kite's and its clock is not late with it."""
