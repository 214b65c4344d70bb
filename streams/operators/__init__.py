"""What operators and clients look at: check-ups, dead letters, the description of all channels."""
