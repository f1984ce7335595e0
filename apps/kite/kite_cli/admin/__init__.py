"""What an operator does on the log: teams, keys. Each use is one record or command; no rules of a service."""
