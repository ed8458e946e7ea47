"""The tables of the keyspace sunbird_courses, and a command that creates them on any cluster."""
