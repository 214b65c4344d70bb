"""Webhooks: events of deliveries, signed and sent to where tenants want them."""
