"""What runs inside Flink, and what submits it."""
