"""What stands before the endpoints: who calls, how often, and what is written down of it."""
