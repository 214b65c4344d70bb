"""What can happen to a delivery: each use-case is a function of a message and its dependencies."""
