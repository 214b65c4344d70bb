"""Formats of archives."""
