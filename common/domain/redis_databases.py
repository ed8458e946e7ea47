"""Sunbird's numbers of Redis databases; a configuration may have others."""

COLLECTIONS = 0
"""Metadata of courses."""
CONTENTS = 5
"""Metadata of contents."""
RELATIONS = 10
"""Leaf nodes, optional nodes and ancestors of courses."""
USERS = 12
"""Learners' profiles."""
