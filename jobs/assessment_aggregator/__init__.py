"""Attempts from ``telemetry.assess``: stores them and keeps the best scores of each learner up to date."""
