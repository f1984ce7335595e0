"""Event payloads: versioned, frozen, golden examples of each in contracts/examples. No clients, no clock."""
