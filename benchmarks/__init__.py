"""How fast the jobs are, on a real cluster, and what a plain driver would do with the same statements."""
