"""What a client calls its deliveries, to find them by (contract, section 6): `delivery.labels`."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that look like nothing
MAX_LABELS = 10
MAX_LABEL = 64  # characters


def _plain(label: str) -> str:
    """Refuse what could not be read, or typed again, where it is shown.

    A comma parts labels where several are written in one line.
    """
    if label != label.strip() or not label.isprintable() or "," in label:
        raise ValueError("must be printable, without a comma, or a space at its ends")
    if label != unicodedata.normalize("NFC", label) or not any(map(_is_seen, label)):
        raise ValueError("must be what can be seen, in the form NFC of Unicode")
    return label


def _is_seen(char: str) -> bool:
    """Whether a character is one by itself that leaves a mark: no filler, no blank, no accent."""
    return unicodedata.category(char)[0] in "LNPS" and char not in _BLANK


def _distinct(labels: list[str]) -> list[str]:
    if len(set(labels)) != len(labels):
        raise ValueError("must not have the same one twice")
    return labels


Labels = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_LABEL), AfterValidator(_plain)]],
    Field(max_length=MAX_LABELS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]
