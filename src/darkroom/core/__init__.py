"""Errors with remedies, atomic outputs, locks, progress, charts and pages: nothing here knows the domain."""
