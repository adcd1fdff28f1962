"""Show where in an image a model sees a class."""
