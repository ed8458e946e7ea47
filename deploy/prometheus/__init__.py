"""Alarms and the dashboard of the jobs, and what checks their expressions."""
