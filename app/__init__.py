"""The heart of the service: what a delivery is, what may happen to it, and how it is kept."""

__version__ = "0.1.0"
