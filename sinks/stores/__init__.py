"""Object stores: a folder, or a file, a kind."""
