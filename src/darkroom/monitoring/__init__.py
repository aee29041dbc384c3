"""Images that arrive in use: what a model says of them, and whether they are like those that it was made for."""
