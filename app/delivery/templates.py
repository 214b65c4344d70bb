"""What archives and their folders are called where a client or tenant says (contract, section 6).

`archiveName` and `prefix` are templates: text with placeholders. What of them is text must be names
that every system takes as they are, or it is refused; what comes in for a placeholder is made safe.
So where an archive goes is always `<prefix>/<correlationId>/<archive name>` of safe components.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Annotated

from pydantic import AfterValidator, Field

from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME
from app.delivery.model import Delivery
from app.delivery.naming import fitted, safe_component

MAX_TEMPLATE = 255  # characters
MAX_FOLDERS = 8  # of a prefix
MAX_PREFIX_BYTES = 255  # of all its folders, with slashes: a key must have room for the rest
# Of an archive that a template names: what is put beside it for a while has a longer name.
MAX_NAME_BYTES = 200

_OF_SEVERAL = {"productId": "several", "version": "mixed"}
# With what a template is tried: values that change nothing.
_SAMPLE: Mapping[str, str] = {
    "correlationId": "x",
    "productId": "x",
    "version": "1",
    "user": "x",
    "date": "2026-01-31",
}
PLACEHOLDERS = (*_SAMPLE,)
_PLACEHOLDER = re.compile(r"\{([^{}/]*)\}")
_OURS = frozenset({MANIFEST_NAME, REPORT_NAME})  # beside an archive


def _component(raw: str) -> str:
    """Return a name that every system takes, and that nothing of ours has; none may be hidden."""
    name = safe_component(raw, fallback="_")
    return f"_{name.removeprefix('.')}" if name.startswith(".") or _is_ours(name) else name


def _is_ours(name: str) -> bool:
    return name.casefold() in _OURS


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Put values in; a placeholder that only a later version knows stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def _checked(template: str, *, most_folders: int) -> str:
    template = unicodedata.normalize("NFC", template)
    if not template:
        return template
    for name in _PLACEHOLDER.findall(template):
        if name not in PLACEHOLDERS:
            *others, last = (f"{{{known}}}" for known in PLACEHOLDERS)
            raise ValueError(
                f"has {{{name[:100]}}}, which stands for nothing; there are {', '.join(others)} "
                f"and {last}"
            )
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        raise ValueError("has a { or a } that is no part of a placeholder such as {date}")
    parts = template.split("/")
    if len(parts) > most_folders:
        raise ValueError(
            f"must not have more than {most_folders} folders"
            if most_folders > 1
            else "must have no /: it is the name of a file, and folders are put before it by prefix"
        )
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError("must have no / at its ends, and no empty part, . or .. between slashes")
    for part in parts:
        tried = _filled(part, _SAMPLE)
        safe = _component(tried)
        if safe != tried:
            raise ValueError(
                "must be of names that every system takes as they are, and none of this service's "
                f"own: {_quoted(tried)} would become {_quoted(safe)}"
            )
    return template


def _quoted(text: str) -> str:
    return f'"{repr(text[:100])[1:-1]}"'


def _archive_name(template: str) -> str:
    """Refuse what no archive can be called by."""
    return _checked(template, most_folders=1)


def _prefix(template: str) -> str:
    """Refuse what no folder can be called by."""
    return _checked(template, most_folders=MAX_FOLDERS)


# Empty: none, so that a request can do without the tenant's.
ArchiveName = Annotated[str, Field(max_length=MAX_TEMPLATE), AfterValidator(_archive_name)]
Prefix = Annotated[str, Field(max_length=MAX_TEMPLATE), AfterValidator(_prefix)]


def place_of(
    delivery: Delivery, product: tuple[str, int] | None, *, suffix: str, default: str
) -> tuple[str, str]:
    """Return prefix and name of a delivery's archive; the prefix has no / at its ends.

    `product` is the one that all its files are of, with its version; None where there are several,
    or it is not known of all files yet. `default` is what it is called without a template.
    """
    values = _values_of(delivery, product)
    return _folders(delivery.prefix_template, values), _name(
        delivery.archive_template, values, suffix=suffix, default=default
    )


def pattern_of(delivery: Delivery, *, suffix: str) -> tuple[str, str]:
    """Return the same for an archive of one product of which nothing is known yet.

    `{productId}` and `{version}` stay in it.
    """
    of_regards = f"{{productId}}_v{{version}}{suffix}"
    default = suffix if suffix == MANIFEST_NAME else of_regards
    values = _values_of(delivery, None) | {name: f"{{{name}}}" for name in _OF_SEVERAL}
    return _folders(delivery.prefix_template, values), _name(
        delivery.archive_template, values, suffix=suffix, default=default
    )


def _values_of(delivery: Delivery, product: tuple[str, int] | None) -> dict[str, str]:
    """Return what placeholders stand for: the same in each attempt, and each a safe component."""
    values = {
        "correlationId": safe_component(delivery.correlation_id, fallback="_"),
        "user": safe_component(delivery.user, fallback="_"),
        "date": delivery.requested_at.astimezone(UTC).date().isoformat(),
    }
    if product is None:
        return values | _OF_SEVERAL
    product_id, version = product
    return values | {
        "productId": safe_component(product_id, fallback="product"),
        "version": str(version),
    }


def _name(template: str, values: Mapping[str, str], *, suffix: str, default: str) -> str:
    if not template or suffix == MANIFEST_NAME:
        return default
    name = _component(_filled(template, values))
    if name[-len(suffix) :].lower() == suffix:  # it is put there once
        name = _component(name[: -len(suffix)])
    return fitted(name, suffix, room=MAX_NAME_BYTES)


def _folders(template: str, values: Mapping[str, str]) -> str:
    if not template:
        return ""
    return "/".join(_together([_component(_filled(part, values)) for part in template.split("/")]))


def _together(parts: list[str]) -> list[str]:
    """Shorten the longest of some folders, so that all together have room."""
    size: Callable[[int], int] = lambda index: len(parts[index].encode())  # noqa: E731 - a key
    room = MAX_PREFIX_BYTES - len(parts) + 1
    fitting = list(parts)
    for done, index in enumerate(sorted(range(len(parts)), key=size)):
        share = room // (len(parts) - done)
        if size(index) > share:
            fitting[index] = fitted(parts[index], "", room=share).rstrip(". ")
        room -= len(fitting[index].encode())
    return fitting
