"""A package, so that the job that its tests share ends after the last of them."""
