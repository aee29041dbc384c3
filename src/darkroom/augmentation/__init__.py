"""Named Albumentations policies and the views they make."""
