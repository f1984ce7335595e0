"""Kafka, as the services see it: topics, publishing, following tables, consumer groups, transactional state. No business rules."""
