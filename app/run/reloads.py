"""What a process reads again when it is told to (SIGHUP), while its work goes on.

Each part is by itself: where one can't be used, it stays as it was, and the others are read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import DeliveryError
from app.settings import Settings, environment_names, in_files, reread
from app.telemetry.logs import get_logger
from app.telemetry.metrics import RELOAD_FAILED_PARTS, RELOADS

log = get_logger(__name__)

# Takes what the settings are now; returns what has changed, in words, or None where nothing has.
# Raises DeliveryError where it can't be used: then all of the part is as it was.
Renew = Callable[[Settings], Awaitable[str | None]]

_ADVICE = "correct the file, and send SIGHUP again (`systemctl reload`)"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    name: str
    renew: Renew
    settings: Collection[str]  # those that it takes


class Reloads:
    """The parts of a process that read again, and how that went."""

    def __init__(
        self,
        settings: Settings,
        *,
        telling: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        """`telling` is around each reload: a supervisor hears of it."""
        self._started = self._current = settings
        self._telling = telling
        self._parts: list[_Part] = []
        self._asked = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._failed: dict[str, tuple[datetime, str]] = {}

    def add(self, name: str, renew: Renew, *, settings: Collection[str] = ()) -> None:
        """Add a part, which takes these settings from files, or reads files itself."""
        self._parts.append(_Part(name=name, renew=renew, settings=settings))

    def ask(self) -> None:
        """Have all be read again, after what is being read now."""
        self._asked.set()

    async def run(self) -> None:
        """Read again whenever that is asked for, one time after the other."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()

    def failed(self) -> dict[str, tuple[datetime, str]]:
        """Return the parts that the last reload left as they were: when, and why."""
        return dict(self._failed)

    async def reload(self) -> None:
        """Read all parts again; log how each went. Raises nothing."""
        async with self._one_at_a_time, self._telling():
            # Files may be on a disk that does not answer.
            fresh, flaws = await asyncio.to_thread(reread, self._current)
            failed = {}
            for part in self._parts:
                cause = await self._renewed(part, fresh, flaws)
                if cause is not None:
                    failed[part.name] = datetime.now(UTC), cause
            waiting = sorted(self._waiting(fresh, flaws))
            for setting, cause in waiting:
                log.warning(
                    "reload_needs_restart",
                    setting=setting,
                    cause=cause,
                    advice="restart this process: it is read at a start alone",
                )
            self._current, self._failed = fresh, failed
            RELOAD_FAILED_PARTS.set(len(failed))
            RELOADS.labels("failed" if failed else "done").inc()
            log.info("reloaded", failed=sorted(failed), need_restart=[name for name, _ in waiting])

    async def _renewed(self, part: _Part, fresh: Settings, flaws: dict[str, str]) -> str | None:
        """Have a part read again; return why it is as it was, if that is no good reason."""
        names = environment_names()
        wrong = [f"{names[name]}: {flaws[name]}" for name in part.settings if name in flaws]
        try:
            changed = None if wrong else await part.renew(fresh)
        except DeliveryError as error:
            wrong = [str(error)]
        except Exception as error:
            log.exception("part_reload_fault", part=part.name)
            wrong = [f"a fault of this program: {error!r}"]
        if wrong:
            cause = "; ".join(wrong)
            log.error("part_not_reloaded", part=part.name, cause=cause, advice=_ADVICE)
            return cause
        log.info("part_reloaded", part=part.name, changed=changed or "nothing")
        return None

    def _waiting(self, fresh: Settings, flaws: dict[str, str]) -> Iterator[tuple[str, str]]:
        """Iterate over what has changed in files that no part reads again."""
        read = {name for part in self._parts for name in part.settings}
        for name in in_files() - read:
            variable = environment_names()[name]
            if name in flaws:
                yield variable, flaws[name]
            elif getattr(fresh, name) != getattr(self._started, name):
                yield variable, "its file has changed"
