"""What must be known of a half-made archive to go on with it in another process.

A transfer can go on at a *boundary*: the end of a part, up to which the store has every byte. The
archive is made again from the member that the boundary lies in; what the store has of it is
dropped, and the next part is sent.

Where an archive pauses, nothing is to be made again: what lies between the last boundary and the
end of the last member, less than a part, is its *tail*, an object of its own beside the archive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from app.delivery.manifest import MANIFEST_NAME
from app.delivery.object_store import StoredPart
from app.errors import CheckpointUnusableError, FolderBusyError


@dataclass(frozen=True, slots=True)
class FinishedMember:
    """What the end of an archive needs of a member."""

    size: int  # bytes of the archive, headers and all
    record: bytes  # what the archive's format keeps of it, beside its file: for that to read


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """The end of a part, as the process that made it knows it."""

    parts: int  # that end here or before
    md5_state: bytes  # of the archive's MD5 after so many bytes; 16 bytes (`PairedMd5.state`)
    members: int  # that are known to end before it; behind the last one comes the archive's end
    crc: int  # CRC-32 of the bytes between the end of these and the boundary
    sha256_state: bytes | None = None  # as that of its MD5, 32 bytes; None: it is not told


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """What an archive has behind a boundary, put aside at the target."""

    key: str
    size: int  # bytes: some, and less than a part
    md5: bytes  # 16 bytes


_FILES = ".files-"  # behind the manifest's name


def noted_files_of(manifest_key: str, delivery: UUID, attempt: int) -> str:
    """Return what the files beside a manifest are noted as, as one object that there never is."""
    return f"{any_files_of(manifest_key)}{delivery}-{attempt}"


def any_files_of(manifest_key: str) -> str:
    """Return what that begins with, whichever delivery and attempt has put them."""
    return f"{manifest_key}{_FILES}"


def files_busy(manifest_url: str) -> FolderBusyError:
    """Return why no file may be put beside a manifest now."""
    folder = manifest_url.removesuffix(MANIFEST_NAME)
    return FolderBusyError(
        f"a delivery of another tenant or user may still be putting files at {folder}: this one "
        "waits, and ends if that one is done; give each tenant a container or a prefix of its own"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TailObject:
    """What an attempt has beside its object: one that holds a tail, or may come to hold it.

    Or all the files that are delivered as they are: which these are is in the delivery's manifest.
    """

    key: str
    attempt: int  # of the delivery: that puts it
    target: str = field(repr=False)  # where, sealed: as `Upload.target` was
    dropped: bool  # it was removed, but may be there again: put late
    # For so long, from when it was asked for on: 0, it is there by now, or never will be.
    may_come: timedelta = field(default=timedelta(), compare=False)

    @property
    def manifest_key(self) -> str | None:
        """The key of the manifest beside which there are files; None: it is a tail."""
        folder, slash, name = self.key.rpartition("/")
        is_of_files = name.startswith(f"{MANIFEST_NAME}{_FILES}")
        return f"{folder}{slash}{MANIFEST_NAME}" if is_of_files else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """From one boundary to another: what is saved to add to what was saved before.

    Or to the end of a tail behind the same boundary, with more members.
    """

    follows: int  # parts up to the boundary that was saved before; 0: it is the first
    part_size: int  # bytes of each part
    boundary: Boundary
    parts: Sequence[StoredPart]  # from that boundary to this one
    members: Sequence[FinishedMember]  # that ended between that boundary and this one
    tail: Tail | None = None  # ends with the last member; the one of the step before counts no more
    made_by: str = ""  # what the bytes of its members depend on beside their files; empty: not told
    contents: bytes | None = None  # what a manifest tells of the members: `contents.Packed`

    @property
    def follows_members(self) -> int:
        """Members up to where it begins."""
        return self.boundary.members - len(self.members)

    @property
    def reaches(self) -> tuple[int, int]:
        """Parts and members up to where it ends: more than any step before it has."""
        return self.boundary.parts, self.boundary.members

    @property
    def saved(self) -> SavedStep:
        """What is read of it first."""
        return SavedStep(
            follows=self.follows,
            part_size=self.part_size,
            boundary=self.boundary,
            parts=self.parts,
            members=len(self.members),
            finished=sum(member.size for member in self.members),
            tail=self.tail,
            made_by=self.made_by,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedStep:
    """A step without its members, which take memory: those of a million files, 200 MB."""

    follows: int
    part_size: int
    boundary: Boundary
    parts: Sequence[StoredPart]
    members: int  # how many it has
    finished: int  # bytes of the archive that these are
    tail: Tail | None = None
    made_by: str = ""

    @property
    def follows_members(self) -> int:
        """Members up to where it begins."""
        return self.boundary.members - self.members

    @property
    def reaches(self) -> tuple[int, int]:
        """Parts and members up to where it ends."""
        return self.boundary.parts, self.boundary.members


LoadMembers = Callable[[SavedStep], Awaitable[Sequence[FinishedMember]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A boundary, and all that is behind it."""

    part_size: int  # bytes of each part
    boundary: Boundary
    parts: Sequence[StoredPart]  # all up to it
    steps: Sequence[SavedStep]  # of all members that end before it, or in the tail
    load: LoadMembers = field(repr=False, compare=False)
    tail: Tail | None = None
    made_by: str = ""  # what made the member that it lies in: see `Step`
    sent: int = 0  # parts that the store was found to have, up to it and behind

    @classmethod
    def of(cls, steps: Sequence[SavedStep], load: LoadMembers) -> Checkpoint:
        """Return what steps lead to: all that were saved of an upload, in their order.

        `load` gives the members of one. Raises CheckpointUnusableError when one is missing, or they
        do not fit together.
        """
        for before, step in zip([None, *steps], steps, strict=False):
            parts, members = before.reaches if before else (0, 0)
            if step.members != step.boundary.members - members:
                raise CheckpointUnusableError(
                    f"of the members that end before part {step.boundary.parts} does, not all "
                    "are known"
                )
            if step.part_size != steps[0].part_size:
                raise CheckpointUnusableError(f"the parts behind part {parts} have another size")
            if (step.follows, step.follows_members) != (parts, members) or len(
                step.parts
            ) != step.boundary.parts - parts:
                raise CheckpointUnusableError(
                    f"of the parts that were sent, those behind part {parts} are not known"
                )
        last = steps[-1]
        checkpoint = cls(
            part_size=last.part_size,
            boundary=last.boundary,
            parts=[part for step in steps for part in step.parts],
            steps=steps,
            load=load,
            tail=last.tail,
            made_by=last.made_by,
        )
        if last.tail is not None and checkpoint.kept != checkpoint.finished:
            raise CheckpointUnusableError(
                f"the tail behind part {last.boundary.parts} does not end where the members do: "
                f"at byte {checkpoint.kept} instead of {checkpoint.finished}"
            )
        if last.tail is None and checkpoint.remade < 0:
            raise CheckpointUnusableError(
                f"the members that end before part {last.boundary.parts} does have "
                f"{checkpoint.finished} bytes, more than the {checkpoint.offset} before its end"
            )
        return checkpoint

    async def members(self) -> AsyncIterator[Sequence[FinishedMember]]:
        """Iterate over all that end before it, or in the tail: those of a step at a time.

        Raises CheckpointUnusableError where they are not what was saved, and StoreUnavailableError.
        """
        for step in self.steps:
            members = await self.load(step)
            size = sum(member.size for member in members)
            if (len(members), size) != (step.members, step.finished):
                raise CheckpointUnusableError(
                    f"of the members that end before part {step.boundary.parts} does, not all "
                    "are known any more"
                )
            yield members

    @property
    def most_members(self) -> int:
        """How many are in memory at a time."""
        return max((step.members for step in self.steps), default=0)

    @property
    def offset(self) -> int:
        """Bytes of the archive before the boundary."""
        return self.boundary.parts * self.part_size

    @property
    def kept(self) -> int:
        """Bytes of the archive that the store has: before the boundary, and in the tail."""
        return self.offset + (self.tail.size if self.tail else 0)

    @property
    def finished(self) -> int:
        """Bytes of the archive that are members which ended."""
        return sum(step.finished for step in self.steps)

    @property
    def remade(self) -> int:
        """Bytes before the boundary that are made again, and dropped."""
        return self.kept - self.finished
