"""The local stack: Kafka, Valkey and the services as child processes of one supervisor. Knows processes, not events."""
