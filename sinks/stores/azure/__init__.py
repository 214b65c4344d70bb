"""Azure's blob storage: block blobs, and what tells an upload from another of the same name."""
