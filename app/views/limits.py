"""What holds for a caller: how large a request may be, and an archive, and what else is set."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.views.view import View


class RequestLimitsView(View):
    """How large the parts of a request may be; characters where no unit is named."""

    correlation_id: int
    correlation_id_prefix: str | None = Field(
        None,
        description="What ids of the caller's own begin with, and folders that they choose; "
        "missing where any may be chosen.",
    )
    target_delivery: int
    user: int
    queries: int = Field(description="Entries.")
    query: int
    labels: int = Field(description="Entries.")
    label: int
    template: int = Field(description="Of `archiveName` and of `prefix`.")
    archive_name_bytes: int = Field(
        description="That a name by a template has at most, with the suffix of its format."
    )
    prefix_bytes: int = Field(description="That folders by a template have at most, together.")
    prefix_folders: int
    body_bytes: int | None = Field(None, description="Of a request over HTTP.")


class ArchiveLimitsView(View):
    """How large an archive may be."""

    files: int
    bytes: int = Field(description="Of the object; a place may take less.")


class CallerLimitsView(View):
    """How often one caller may ask over HTTP."""

    requests_per_second: float
    burst: int
    at_once: int


class LimitsView(View):
    """What holds for requests of a tenant."""

    settings: dict[str, Any] = Field(
        description="The tenant's settings that hold for requests, by their names, as "
        "`GET /settings` describes them; none that tells a secret or a place."
    )
    formats: list[str]
    targets: list[str] = Field(
        description="Names for `targetDelivery`. Where there is one alone, any name means that."
    )
    request: RequestLimitsView
    archive: ArchiveLimitsView
    http: CallerLimitsView | None = None
