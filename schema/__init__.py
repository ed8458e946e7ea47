"""Tables of the keyspace sunbird_courses, and the command that applies them to any cluster."""
