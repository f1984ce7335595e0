"""`kitectl chaos`: a Kite of its own under load and under faults from a seeded schedule, and what came of every promise it made."""
