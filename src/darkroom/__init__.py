"""Darkroom develops an image classifier from a folder of photographs."""

__version__ = "0.1.0"
