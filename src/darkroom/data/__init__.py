"""From files to arrays: sources, decoding, the manifest, duplicates, splits."""
