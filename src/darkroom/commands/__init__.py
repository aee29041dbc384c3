"""The everyday commands of `darkroom`, one module each with a `main(arguments)`."""
