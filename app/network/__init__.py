"""Which hosts are spoken to, and over which TLS."""
