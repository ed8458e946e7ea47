"""Injects faults into a real cluster under load. An oracle finds out whether anything was lost or counted twice."""
