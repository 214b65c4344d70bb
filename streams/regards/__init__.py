"""REGARDS over REST: rs-order, rs-admin, and its sign-in."""
