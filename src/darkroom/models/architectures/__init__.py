"""The classic architectures, to be read beside their papers: one file per family, a function per variant."""
