"""One file per kind of fault. Each does it, undoes it, and returns when it is over; what it harms comes back without its help."""
