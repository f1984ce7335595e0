"""What a facilitator does for its deployment, and for no other: pure decisions."""
