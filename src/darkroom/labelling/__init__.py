"""Labels by people: which images to look at, what was decided, and the page on which it is."""
