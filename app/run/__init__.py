"""Processes: which services run in them, what these are wired of, in which order they start."""
