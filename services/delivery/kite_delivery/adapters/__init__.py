"""Everything technical: Kafka, HTTP, sealed secrets, logs. No rules."""
