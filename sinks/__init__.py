"""What goes out: the archive and the object store it is put on."""
