"""Inference: classifiers on arrays and image files, test-time augmentation, export and heat maps."""
