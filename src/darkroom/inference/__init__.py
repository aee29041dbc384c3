"""From a checkpoint folder to answers."""
