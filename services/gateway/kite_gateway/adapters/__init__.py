"""What the gateway is connected to: Redis, Kafka, HTTP."""
