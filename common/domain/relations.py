"""Keys of the relation cache: the Redis sets that describe what a course consists of. Pure."""


def leaf_nodes_key(course_id: str, collection_id: str) -> str:
    """The key of the leaf nodes of a collection: a unit of the course, or the course itself."""
    return f"{course_id}:{collection_id}:leafnodes"


def optional_nodes_key(course_id: str, collection_id: str) -> str:
    """The key of the leaf nodes of a collection that are not required."""
    return f"{course_id}:{collection_id}:optionalnodes"


def ancestors_key(course_id: str, content_id: str) -> str:
    """The key of the collections that contain a content, including the course."""
    return f"{course_id}:{content_id}:ancestors"
