"""Everything technical: Kafka, ClickHouse, Redis, HTTP."""
