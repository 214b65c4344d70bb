"""What the service runs with: containers, the same stack as child processes, a stand-in rs-order."""
