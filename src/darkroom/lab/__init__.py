"""Looking inside: kernels, filters, feature maps, receptive fields, augmentations, embeddings. Arrays in, arrays out."""
