"""The tenants, as the static settings name them. Settings of their own come with the REST API."""

from __future__ import annotations

from datetime import timedelta

from app.model import S3Target, TenantSettings
from app.settings import Settings


class StaticTenants:
    """See `app.ports.Tenants`: the same settings for every tenant of the list."""

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(settings.tenants)
        self._settings = TenantSettings(
            request_ttl=timedelta(hours=settings.request_ttl_hours),
            order_size_limit_bytes=settings.order_size_limit_bytes,
            target=S3Target(
                endpoint=settings.s3_endpoint.rstrip("/"),
                region=settings.s3_region,
                key=settings.s3_key,
                secret=settings.s3_secret.get_secret_value(),
                bucket=settings.delivery_bucket,
            ),
        )

    def known(self, tenant: str) -> bool:
        """Whether the tenant is in the list."""
        return tenant in self._names

    def settings(self, tenant: str) -> TenantSettings:  # noqa: ARG002 - the port's signature
        """Return what holds for every tenant."""
        return self._settings
