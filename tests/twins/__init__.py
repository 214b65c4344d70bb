"""Twins of what is outside: they pass the same contract tests (`tests.contract`) as the real ones.

Without a socket or a thread, and with no clock but one that is given: what a simulation can drive.
(The store's is `app.store.memory`, the object store's `sinks.stores.memory`.)
"""
