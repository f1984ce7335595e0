"""`kitectl audit`: whether the log keeps what the design promises, and Redis and the archive say the same. Changes nothing."""
