"""What the service runs with: containers, the same as child processes, a stand-in rs-order."""
