"""Waiting: for what is away for a while, and for work."""
