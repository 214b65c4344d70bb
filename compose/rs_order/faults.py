"""How the stand-in misbehaves when told to, by `PUT /control/faults`."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from compose.rs_order.patterns import Pattern, picks


class Faults(BaseModel):
    """What goes wrong from now on. Counters are used up; everything else holds until changed."""

    model_config = ConfigDict(extra="forbid")

    # Orders
    order: Literal["deny", "fail", "silent", "stuck"] | None = Field(
        None,
        description="Deny every order; or fail to restore its files; or never say anything of it "
        "(silent); or grant it, and never restore its files (stuck).",
    )
    error_type: str | None = Field(None, description="errorType of what is denied or fails.")
    order_errors: int = Field(
        0, ge=0, description="`errors` in SUBORDER_DONE and at the end, whatever there are."
    )
    events_late: float = Field(0, ge=0, description="Seconds before each order event.")
    events_twice: bool = Field(False, description="Send every order event twice.")
    events_reversed: bool = Field(
        False,
        description="Send an order's events last first: those up to where it ends, or waits for "
        "downloads.",
    )
    # Users
    unknown_users: list[str] = Field([], description="Users that rs-admin does not know.")
    admin_answers_500: int = Field(0, ge=0, description="Answers of rs-admin to come: a 500.")
    # Listing and downloads
    answers_500: int = Field(0, ge=0, description="REST answers to come that are a 500.")
    not_ready: int = Field(0, ge=0, description="Downloads to come that are a 202.")
    listing_not_ready: int = Field(0, ge=0, description="Listings to come that are a 206.")
    refuse: int | None = Field(None, ge=400, le=499, description="Status of every download.")
    refuse_names: Pattern = Field(
        "", description="Regular expression of names of files that `refuse` is for; empty: all."
    )
    bytes_per_second: int | None = Field(None, ge=1, description="Rate of each download.")
    drop_after: int | None = Field(None, ge=0, description="Bytes after which downloads break.")
    drops: int = Field(0, ge=0, description="Downloads to come that break.")
    ranges: bool = Field(False, description="Answer a Range, which rs-order ignores.")
    # Lies
    wrong_checksums: int = Field(0, ge=0, description="Downloads to come with a changed byte.")
    spoilt_names: Pattern = Field(
        "",
        description="Regular expression of names of files that come with a changed byte each time.",
    )
    wrong_sizes: bool = Field(False, description="List each file a byte too long.")
    no_checksum: bool = Field(False, description="List files without their checksum.")
    no_size: bool = Field(False, description="List files without their size.")

    @property
    def fate(self) -> Literal["fail", "stuck"] | None:
        """What becomes of an order that is granted now; None: it is done."""
        return self.order if self.order in ("fail", "stuck") else None

    def refusal_of(self, name: str) -> int | None:
        """Return the status that a download of a file is refused with; None: it is served."""
        return self.refuse if not self.refuse_names or picks(self.refuse_names, name) else None

    def spoils(self, name: str) -> bool:
        """Return whether a file comes with a changed byte; uses up a counter where it has to."""
        return picks(self.spoilt_names, name) or self.use("wrong_checksums")

    def use(self, counter: str) -> bool:
        """Use up one of a counter; False when none is left."""
        left: int = getattr(self, counter)
        if left:
            setattr(self, counter, left - 1)
        return left > 0

    async def pace(self, size: int) -> None:
        """Wait as long as `size` bytes take at the set rate."""
        if self.bytes_per_second:
            await asyncio.sleep(size / self.bytes_per_second)
