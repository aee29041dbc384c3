"""Architectures, weights, initialisation and checkpoints; torch and torchvision alone."""
