"""The protocol of a transfer as a model, whose states are all visited."""
