"""The three jobs, and the commands that go with them. No job imports another."""
