"""The domain: what a delivery is, what is said about one, and what it needs from the outside."""
