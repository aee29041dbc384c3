"""The only training loop, its schedules, and the embeddings of frozen networks."""
