"""Keys of the relation cache: the Redis sets that say what a course consists of. Pure."""


def leaf_nodes_key(course_id: str, collection_id: str) -> str:
    """Of the leaf nodes of a collection: a unit of the course, or the course itself."""
    return f"{course_id}:{collection_id}:leafnodes"


def optional_nodes_key(course_id: str, collection_id: str) -> str:
    """Of those leaf nodes of a collection that a learner may leave out."""
    return f"{course_id}:{collection_id}:optionalnodes"


def ancestors_key(course_id: str, content_id: str) -> str:
    """Of the collections that hold a content, the course among them."""
    return f"{course_id}:{content_id}:ancestors"
