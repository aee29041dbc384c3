"""Projects outside of the repository: the files that one begins with, and how they follow a newer Darkroom."""
