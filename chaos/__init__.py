"""Faults on a real cluster under load, and an oracle that says whether anything was lost or counted twice."""
