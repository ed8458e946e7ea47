"""A package, so that the servers that its tests share end after the last of them."""
