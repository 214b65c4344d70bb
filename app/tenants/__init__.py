"""Tenants: what each may set, what it has set, and how settings change."""
