"""Manifests for the Flink operator without Helm."""
