"""Formats of archives: each is a file here, and an entry of `FORMATS`; and files as they are."""

from __future__ import annotations

from dataclasses import replace

from app.delivery.checkpoint import Checkpoint
from app.delivery.contents import Wanted
from app.delivery.formats import AS_FILES
from app.errors import RetryableError
from sinks.formats.archive_format import ArchiveFormat, Form
from sinks.formats.deflate import DeflatePool
from sinks.formats.files import Files
from sinks.formats.tar import Tar
from sinks.formats.tar_zst import DEFAULT_LEVEL, TarZst
from sinks.formats.zip import Zip

FormatsMade = tuple[ArchiveFormat, ...]


def formats_with(*, zstd_level: int, deflate_threads: int = 0) -> FormatsMade:
    """Return the formats as an operator wants them, for a whole process.

    `zstd_level` is 1 to 19; `deflate_threads` 0 means as many as there are processors, up to 8.
    """
    return Zip(pool=DeflatePool(deflate_threads)), Tar(), TarZst(zstd_level)


FORMATS = formats_with(zstd_level=DEFAULT_LEVEL)
FILES = Files()


def as_wanted(form: ArchiveFormat | Files, wanted: Wanted) -> ArchiveFormat | Files:
    """Return a form as the tenant of a delivery wants it, as far as its bytes depend on that."""
    if isinstance(form, Files):
        return replace(form, sha256=wanted.sha256)
    if isinstance(form, Zip):
        return replace(form, threshold=wanted.compression_threshold)
    return form


def has_sizes_first(form: ArchiveFormat | Files) -> bool:
    """Whether a file's size stands before its bytes: one that is not listed is the answer's then.

    The bytes are the same, then, whether it is told or all are held to count them. In a ZIP they
    are not, so that knows the listing's sizes alone.
    """
    return isinstance(form, Tar | TarZst)


def made_by_of(form: ArchiveFormat | Files) -> str:
    """Return what a form's bytes depend on beside the files, where it tells; else nothing."""
    return form.made_by if isinstance(form, Zip | TarZst | Files) else ""


def going_on(form: ArchiveFormat | Files, after: Checkpoint) -> ArchiveFormat | Files:
    """Return a form so that it makes what was sent again, up to a checkpoint, and goes on so.

    Raises CheckpointUnusableError where it can't, before any file is read for it. What ends with a
    member, as after a pause, is not made again: so it goes on as the form is.
    """
    if isinstance(form, Files):
        return form.as_made_by(after.made_by)
    if isinstance(form, Zip) and after.remade:
        return form.as_made_by(after.made_by)
    if isinstance(form, TarZst) and after.made_by and after.remade:
        return form.as_made_by(after.made_by)
    return form


def least_of(form: Form, *, total_bytes: int, file_count: int) -> int:
    """Return the bytes that an object of such files is taken to have at least, before it is made.

    Where it may become smaller than the files are, that is not counted on.
    """
    if isinstance(form, Tar):
        return form.least(total_bytes=total_bytes, file_count=file_count)
    return total_bytes


def suffix_of(name: str) -> str:
    """Return what archives of a format are called behind their names: a dot, and its own name.

    Of files that are delivered as they are it is the whole name of their manifest. Raises
    RetryableError for one that is none of these: a worker of another version may know it.
    """
    if name == AS_FILES:
        return FILES.suffix
    suffix = f".{name}"
    if suffix not in {known_format.suffix for known_format in FORMATS}:
        raise RetryableError(
            f"archives are asked for as {name}, a format that this worker does not know: one of "
            "the version that took the request in can plan them"
        )
    return suffix


def format_of(archive_name: str, formats: FormatsMade = FORMATS) -> ArchiveFormat | Files:
    """Return the form that a delivery was planned as, which the name of its object tells.

    By the name, and not by what is planned today: a delivery may have been planned before. Raises
    RetryableError for a name of none of these: a worker of another version may know it.
    """
    if archive_name == FILES.suffix:
        return FILES
    for known_format in formats:
        if archive_name.endswith(known_format.suffix):
            return known_format
    known = ", ".join(known_format.suffix for known_format in formats)
    raise RetryableError(
        f"{archive_name} is of no format that this worker knows ({known}): one of the version that "
        "planned it can make it"
    )
