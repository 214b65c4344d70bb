"""Pages of reference that are made of the program: a file each, as Markdown."""
