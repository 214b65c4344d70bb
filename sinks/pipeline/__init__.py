"""The stages of a transfer: prefetch, verify, zip, gather into parts, digest."""
