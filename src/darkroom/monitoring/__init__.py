"""Monitoring: the log of a model's predictions for arriving images, and drift of these images."""
