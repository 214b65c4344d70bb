"""A stand-in for REGARDS' rs-order: orders over AMQP, files over REST, from a folder of products.

For the demo, the tests and compose. It behaves as contract.md says, and misbehaves when told to.
"""
