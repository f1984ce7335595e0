"""Who uses a Kite while it is under fire: each remembers what it was told, none of them knows of faults."""
