"""Measures the jobs on a real cluster, and compares them with a plain driver that executes the same statements."""
