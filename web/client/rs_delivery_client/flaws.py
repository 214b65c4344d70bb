"""What a check finds: flaws, each of a kind, and the report that has them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_KEPT = 1000  # flaws that a report keeps; all of them are counted, and told as they are found


class Kind(StrEnum):
    """What is wrong."""

    MISSING = "missing"  # the manifest lists it, and it is not there
    EXTRA = "extra"  # it is there, and the manifest does not list it
    DUPLICATE = "duplicate"  # a name that is there, or is listed, more than once
    WRONG_SIZE = "wrong_size"
    WRONG_MD5 = "wrong_md5"
    WRONG_SHA256 = "wrong_sha256"
    WRONG_CRC32 = "wrong_crc32"
    DAMAGED = "damaged"  # the structure of the archive does not hold together
    TRUNCATED = "truncated"  # the archive ends before its end
    TRAILING = "trailing"  # bytes behind the archive's end
    UNREADABLE = "unreadable"  # a member in a way that is not read here: encrypted, a link, …


@dataclass(frozen=True, kw_only=True, slots=True)
class Flaw:
    """One thing that is not as it should be."""

    kind: Kind
    path: str | None = None  # of the file; None: the archive, or the manifest, as a whole
    says: str  # in words

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        named = {} if self.path is None else {"path": self.path}
        return {"flaw": self.kind.value, **named, "says": self.says}

    def __str__(self) -> str:
        """Return a line."""
        return self.says if self.path is None else f"{self.path}: {self.says}"


Tell = Callable[[Flaw], None]


@dataclass(kw_only=True)
class Report:
    """What was checked, and what came of it."""

    what: str = ""  # that was checked
    listed: int | None = None  # files in the manifest; None: there was none
    files: int = 0  # that were read
    size: int = 0  # bytes of the files that were read
    flaws: list[Flaw] = field(default_factory=list)  # the first MAX_KEPT
    count: int = 0  # of all flaws
    kinds: Counter[Kind] = field(default_factory=Counter)
    left_out: int = 0  # files that the delivery could not have, as its manifest says
    notes: list[str] = field(default_factory=list)  # what could not be checked
    on_flaw: Tell | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether no flaw was found."""
        return self.count == 0

    def tell(self, flaw: Flaw) -> None:
        """Take a flaw in."""
        self.count += 1
        self.kinds[flaw.kind] += 1
        if len(self.flaws) < MAX_KEPT:
            self.flaws.append(flaw)
        if self.on_flaw is not None:
            self.on_flaw(flaw)

    def note(self, says: str) -> None:
        """Say what could not be checked."""
        if says not in self.notes:
            self.notes.append(says)

    def body(self) -> dict[str, Any]:
        """Return what it comes to, as JSON has it; without the flaws, which are told one by one."""
        return {
            "result": "ok" if self.ok else "flawed",
            "what": self.what,
            "files": self.files,
            "bytes": self.size,
            **({} if self.listed is None else {"listed": self.listed}),
            **({"leftOut": self.left_out} if self.left_out else {}),
            "flaws": self.count,
            **({"kinds": {kind.value: n for kind, n in self.kinds.items()}} if self.kinds else {}),
            **({"notes": self.notes} if self.notes else {}),
        }

    def __str__(self) -> str:
        """Return it in a sentence."""
        of = "" if self.listed is None else f" of {self.listed:,} listed"
        read = f"{self.files:,} files{of}, {self.size:,} bytes read"
        if self.ok:
            return f"{self.what} is whole: {read}"
        kinds = ", ".join(f"{count:,} {kind.value}" for kind, count in self.kinds.items())
        return f"{self.what} has {self.count:,} flaws ({kinds}): {read}"
