"""Looking inside networks: kernels, filters, feature maps, receptive fields, augmentations, embeddings."""
