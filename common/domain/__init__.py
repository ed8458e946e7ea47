"""Rules and values that jobs and readers share. Pure: imports nothing of ours outside this room."""
