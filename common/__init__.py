"""What the jobs, the services and the reports share. Imports nothing of them."""
