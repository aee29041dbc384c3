"""A search of better settings for a project: heads on its frozen backbones, then fine-tuning of their last blocks."""
