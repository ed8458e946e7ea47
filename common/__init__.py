"""What the jobs and the readers share. It imports none of them."""
