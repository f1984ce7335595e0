"""Replay: the archive of the log and the routes that read it. Never changes an event."""
