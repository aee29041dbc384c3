"""The classic architectures, to be read beside their papers: one file per family, its variants in a table."""
