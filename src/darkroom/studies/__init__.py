"""Experiments that vary one thing at equal data order and equal cost: members, their training, and what they come to."""
