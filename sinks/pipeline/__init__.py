"""The stages of a transfer: prefetch, rechunk, verify, archive, assemble parts, digest."""
