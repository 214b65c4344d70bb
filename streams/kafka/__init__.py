"""Kafka: topics and events, the agents that process them, dead letters."""
