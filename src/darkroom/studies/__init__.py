"""Experiments that vary one thing and keep the rest equal: runs, their training, their comparison."""
