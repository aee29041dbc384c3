"""Darkroom from Python: a project, its results and its models as objects. The commands are a thin layer over it."""
