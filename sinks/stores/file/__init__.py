"""Archives in a folder of a shared file system."""
