"""Options that several commands have."""

from __future__ import annotations

import click

from app.settings import Settings

tenant_option = click.option("--tenant", help="Default: the first of DELIVERY_TENANTS.")


def chosen_tenant(settings: Settings, tenant: str | None) -> str:
    """Return the tenant that is meant. Raises UsageError."""
    if tenant is not None and tenant not in settings.tenants:
        known = ", ".join(settings.tenants)
        raise click.UsageError(f"unknown tenant {tenant}; DELIVERY_TENANTS has {known}")
    return tenant or settings.tenants[0]
