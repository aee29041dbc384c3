"""The commands of `darkroom`, a module each: options, a call, and the output. docs/architecture.md has the pattern."""
