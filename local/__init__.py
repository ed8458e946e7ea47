"""The local world: a real Kafka, Cassandra, Redis and Flink cluster on one Linux machine, without containers."""
