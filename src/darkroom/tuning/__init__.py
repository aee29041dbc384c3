"""A search of better settings for a project: the head on its frozen backbones."""
