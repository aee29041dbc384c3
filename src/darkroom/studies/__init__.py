"""Experiments that vary one thing and keep the rest equal: the runs of a study, their training and their comparison."""
