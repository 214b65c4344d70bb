"""What holds for a caller's requests: told before one is made."""

from __future__ import annotations

from app.delivery.formats import FORMATS
from app.delivery.labels import MAX_LABEL, MAX_LABELS
from app.delivery.messages import (
    MAX_CORRELATION_ID,
    MAX_QUERIES,
    MAX_QUERY,
    MAX_TARGET,
    MAX_USER,
)
from app.delivery.own_ids import prefix_of
from app.delivery.templates import MAX_FOLDERS, MAX_NAME_BYTES, MAX_PREFIX_BYTES, MAX_TEMPLATE
from app.tenants.registry import ConfiguredTenants
from app.views.limits import ArchiveLimitsView, LimitsView, RequestLimitsView


def limits_of(tenant: str, *, tenants: ConfiguredTenants, user: str | None = None) -> LimitsView:
    """Return what holds for a tenant's requests; of one `user` who sees only their own, if given.

    Of settings all that hold for requests, whichever they are; none that tells a secret or a place.
    """
    static = tenants.static
    return LimitsView(
        settings={
            setting.name: setting.value
            for setting in tenants.listing(tenant)
            if tenants.definitions.of(setting.name).is_public
        },
        formats=list(FORMATS),
        targets=sorted(tenants.settings(tenant).names),
        request=RequestLimitsView(
            correlation_id=MAX_CORRELATION_ID,
            correlation_id_prefix=None if user is None else prefix_of(user),
            target_delivery=MAX_TARGET,
            user=MAX_USER,
            queries=MAX_QUERIES,
            query=MAX_QUERY,
            labels=MAX_LABELS,
            label=MAX_LABEL,
            template=MAX_TEMPLATE,
            archive_name_bytes=MAX_NAME_BYTES,
            prefix_bytes=MAX_PREFIX_BYTES,
            prefix_folders=MAX_FOLDERS,
        ),
        archive=ArchiveLimitsView(files=static.max_order_files, bytes=static.max_object_size),
    )
