"""Darkroom from Python: a project, its results and its models as objects. Commands find models by the same module."""
