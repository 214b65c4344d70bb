"""How the stand-in is set up, as an operator sets up rs-order: its limits, and what differs.

Each is an option of `python -m compose.rs_order` (`--suborder-bytes`), is changed while it runs by
`PUT /control/switches`, and is described in docs/stand-in.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from compose.rs_order.cutting import Datasets
from compose.rs_order.patterns import Pattern


class SwitchError(ValueError):
    """A switch is unknown, or has a value that it can't have; the message names each."""


def _refusal(status: int) -> int:
    if status and not 400 <= status <= 599:
        raise ValueError("give 0, or a status from 400 to 599")
    return status


Refusal = Annotated[int, AfterValidator(_refusal)]


class Switches(BaseModel):
    """What holds from now on; the defaults are rs-order's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Cutting
    suborder_bytes: int = Field(
        100 * 1024 * 1024,
        ge=0,
        description="Bytes at which a suborder is cut, behind the file that reaches them; "
        "0: never.",
    )
    suborder_files: int = Field(
        5000, ge=0, description="Files at which a suborder is cut; 0: never."
    )
    datasets: Datasets = Field(
        "one",
        description="Which products are of one dataset, since no suborder has files of two: `one` "
        "(all), `product` (each its own), `prefix` (what is before the id's first `_` or `-`).",
    )
    # Restoring
    user_places: int = Field(
        2,
        ge=0,
        description="Suborders of a user that are restored, or wait for download, at a time, "
        "over all orders; 0: no limit.",
    )
    restore_seconds: float = Field(
        0.0, ge=0, description="Seconds until the first file of a suborder is restored: a tape."
    )
    restore_file_seconds: float = Field(
        0.0, ge=0, description="Seconds for each file of a suborder, one after the other, on top."
    )
    unrestorable: Pattern = Field(
        "", description="Regular expression of names of files that end in `ERROR`; empty: none."
    )
    # Events
    total_suborders: Literal["begun", "all"] = Field(
        "begun",
        description="What `SUBORDER_DONE` tells as `totalSubOrders`: the suborders that have "
        "`begun` (a lower bound), or `all`.",
    )
    granted_late: int = Field(
        0,
        ge=0,
        description="Of so many orders one has its `GRANTED` after its first other event; 0: none.",
    )
    broken_downloads_count: bool = Field(
        default=False,
        description="Count `DOWNLOAD_ERROR` among an order's errors, too, not `ERROR` alone.",
    )
    # Lifetimes
    cache_seconds: float = Field(
        7200.0, gt=0, description="Seconds that restored files stay in the cache: then 410."
    )
    longest_order_seconds: float = Field(
        604800.0,
        gt=0,
        description="Seconds after which an order expires at the latest; else after "
        "(suborders + 2) × `cache_seconds`.",
    )
    # Downloads
    large_file_bytes: int = Field(
        2**31,
        ge=0,
        description="Bytes from which on a file never becomes `DOWNLOADED`; 0: each file does.",
    )
    external: Pattern = Field(
        "",
        description="Regular expression of names of referenced files: they never become "
        "`DOWNLOADED` either; empty: none.",
    )
    second_get: Refusal = Field(
        429, description="Status of a GET of a file that is being read already; 0: it is served."
    )
    quota: int = Field(
        0, ge=0, description="Downloads that a user may begin, then 429; 0: no limit."
    )
    simultaneous_downloads: int = Field(
        0, ge=0, description="Downloads of a user at the same time, then 429; 0: no limit."
    )
    # Answers
    partial_content: bool = Field(
        default=True, description="Answer 206 for the list of what is not finished, else 200."
    )
    order_facts: bool = Field(default=True, description="Answer for an order as a whole; else 404.")
    dataset_files: bool = Field(
        default=True, description="Tell the files of an order's datasets; else 404."
    )
    shuffled: bool = Field(
        default=True, description="Order each page of those in another way: some come twice."
    )
    crc32: bool = Field(default=True, description="Tell their CRC-32, as from version 2.4 on.")
    flat: bool = Field(
        default=False, description="Entries without an inner `content`, and with `fileSize`."
    )

    def changed(self, values: Mapping[str, Any]) -> Switches:
        """Return them with other values. Raises SwitchError."""
        try:
            return Switches.model_validate(self.model_dump() | dict(values))
        except ValidationError as error:
            raise SwitchError("; ".join(_sentences(error))) from None

    def options(self) -> list[str]:
        """Return the options of `python -m compose.rs_order` that set them so."""
        values = self.model_dump(exclude_defaults=True).items()
        return [part for name, value in values for part in (option_of(name), str(value))]


# For the demo: an order of several small products is several suborders.
SHOWN = Switches(datasets="prefix")
# For tests whose user has many orders under way, and leaves some behind that are never downloaded:
# each is one suborder.
UNLIMITED = Switches(suborder_bytes=0, suborder_files=0, datasets="one", user_places=0)


def option_of(name: str) -> str:
    """Return the option that sets a switch."""
    return f"--{name.replace('_', '-')}"


def _sentences(error: ValidationError) -> list[str]:
    return [
        f"there is no switch {found['loc'][0]!r}: see docs/stand-in.md"
        if found["type"] == "extra_forbidden"
        else f"{found['loc'][0]}: {found['input']!r} can't be its value: "
        + found["msg"].removeprefix("Value error, ")
        for found in error.errors()
    ]
