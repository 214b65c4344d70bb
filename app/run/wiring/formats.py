"""The formats of archives as the settings want them, and whether there is memory for each."""

from __future__ import annotations

from app.settings import Settings
from sinks.formats import FormatsMade, formats_with
from sinks.pipeline.parts import memory_lack


def formats_of(settings: Settings) -> FormatsMade:
    """Return the formats that a worker makes."""
    return formats_with(zstd_level=settings.zstd_level, deflate_threads=settings.deflate_threads)


def memory_lack_of(settings: Settings) -> str | None:
    """Return why a worker could make no archive at all of some format; None: it could of each."""
    return memory_lack(
        formats_of(settings),
        part_size=settings.part_size,
        memory=settings.transfer_memory,
        worker_memory=settings.worker_memory,
    )
