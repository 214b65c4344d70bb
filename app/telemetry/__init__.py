"""Logs, metrics and spans; and a watch on the event loop."""
