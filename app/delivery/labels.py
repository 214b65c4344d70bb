"""What a client calls its deliveries, to find them by (contract, section 6): `delivery.labels`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

MAX_LABELS = 10
MAX_LABEL = 64  # characters


def _plain(label: str) -> str:
    """Refuse what could not be read, or typed again, where it is shown."""
    if label != label.strip() or not label.isprintable():
        raise ValueError("must be printable, without a space at its ends")
    return label


def _distinct(labels: list[str]) -> list[str]:
    if len(set(labels)) != len(labels):
        raise ValueError("must not have the same one twice")
    return labels


Labels = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_LABEL), AfterValidator(_plain)]],
    Field(max_length=MAX_LABELS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]
