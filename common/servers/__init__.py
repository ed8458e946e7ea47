"""Clients of Cassandra, Redis, Kafka and HTTP services, for one asyncio event loop. They do not know Flink."""
