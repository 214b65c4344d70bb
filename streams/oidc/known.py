"""What is known of the provider just now: read again when it is old, and kept while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from app.errors import IdentityUnavailableError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import IDENTITY_KEYS_READ, IDENTITY_READS
from streams.oidc.jwks import PublicKey
from streams.oidc.provider import Discovery, ProviderState

log = get_logger(__name__)

_MAX_AGE = 300.0  # seconds after which it is read again: a key that was withdrawn is good so long
_PAUSE = 10.0  # seconds between two looks, whatever callers bring, once there were some at once
_MAX_SPARE = 3  # looks that need not wait for each other: keys may be changed right after one
_MAX_WAITING = 50  # requests that wait for one


class KnownProvider:
    """Reads a provider when there is need, once for all who wait, and not too often.

    A `kid` that is not known is a reason to look again: keys are changed so. Some looks may be made
    one after the other, then one in `pause` seconds: a client that invents keys makes no more. What
    can't be looked for yet is not refused, but told to come again; what was looked for, and is not
    there, is refused without another look for as long. While the provider is away, the last keys
    stay good, and no request waits for it.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[ProviderState]],
        *,
        max_age: float = _MAX_AGE,
        pause: float = _PAUSE,
        max_waiting: int = _MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._max_age = max_age
        self._pause = pause
        self._max_waiting = max_waiting
        self._clock = clock
        self._begun = 0  # looks
        self._spare = float(_MAX_SPARE)  # looks that may be made now; more come with time
        self._spare_at = clock()
        self._absent: dict[str, float] = {}  # when keys were not found that were looked for
        self._state: ProviderState | None = None
        self._read_at = self._tried_at = float("-inf")
        self._failure: IdentityUnavailableError | None = None  # of the last look
        self._looking: asyncio.Task[None] | None = None
        self._waiting = 0

    def begin(self) -> None:
        """Look, so that the first request need not wait."""
        self._look()

    async def close(self) -> None:
        """End a look under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def discovery(self) -> Discovery:
        """Return what the provider says of itself. Raises IdentityUnavailableError."""
        return (await self._current()).discovery

    async def keys(self, kid: str | None, algorithm: str) -> Sequence[PublicKey]:
        """Return the keys that a token may be signed with; none where the provider has none.

        Raises IdentityUnavailableError where that can't be told, as it does not answer.
        """
        before = self._begun
        state = await self._current()
        if kid is None or kid in state.keys.names:
            return state.keys.of(kid, algorithm)
        if self._clock() - self._absent.get(kid, float("-inf")) >= self._pause:
            state = await self._looked_for(kid, state, before)
        if kid not in state.keys.names and self._failure is not None:
            raise self._failure
        return state.keys.of(kid, algorithm)

    async def _looked_for(self, kid: str, state: ProviderState, before: int) -> ProviderState:
        """Return what a look says that began after so many, or the state of one that has the key.

        Raises IdentityUnavailableError where the provider is away, or was looked at too often.
        """
        while kid not in state.keys.names and (self._looking is not None or self._begun == before):
            if self._looking is None:
                self._require_look()
            state = await self._looked()
        if kid not in state.keys.names and self._failure is None:
            now = self._clock()
            self._absent = {
                known: at for known, at in self._absent.items() if now - at < self._pause
            } | {kid: now}
        return state

    def _require_look(self) -> None:
        if self._failure is not None and not self._may_look():
            raise self._failure
        wait = self._until_spare()
        if wait > 0:
            raise IdentityUnavailableError(
                "the token names a key that is not known, and the identity provider was looked at "
                "as often as may be",
                retry_after=wait,
            )

    def _until_spare(self) -> float:
        """Return in how many seconds a key that is not known may be looked for."""
        now = self._clock()
        passed = (now - self._spare_at) / self._pause if self._pause else _MAX_SPARE
        self._spare = min(_MAX_SPARE, self._spare + passed)
        self._spare_at = now
        return max(0.0, 1.0 - self._spare) * self._pause

    async def _current(self) -> ProviderState:
        if self._state is None:
            if self._looking is None and not self._may_look() and self._failure is not None:
                raise self._failure
            return await self._looked()
        if self._clock() - self._read_at > self._max_age:
            looks = self._looking is not None or self._may_look()
            # All wait for it, not the first alone; where it is away, none does.
            if self._failure is None and looks and self._waiting < self._max_waiting:
                return await self._looked()
            if looks:
                self._look()
        return self._state

    def _may_look(self) -> bool:
        return self._clock() - self._tried_at >= self._pause

    async def _looked(self) -> ProviderState:
        """Wait for a look; return what is known then. Raises IdentityUnavailableError."""
        if self._waiting >= self._max_waiting:
            raise IdentityUnavailableError(
                f"{self._max_waiting} requests wait for the identity provider already"
            )
        self._waiting += 1
        try:
            await asyncio.shield(self._look())
        finally:
            self._waiting -= 1
        if self._state is None:
            assert self._failure is not None  # noqa: S101 - a look ends with one of them
            raise self._failure
        return self._state

    def _look(self) -> asyncio.Task[None]:
        if self._looking is None:
            self._tried_at = self._clock()
            self._begun += 1
            self._until_spare()
            self._spare = max(0.0, self._spare - 1)
            self._looking = asyncio.create_task(self._take_a_look())
        return self._looking

    async def _take_a_look(self) -> None:
        try:
            self._succeeded(await self._read())
        except IdentityUnavailableError as error:
            self._failed(error)
        except Exception as error:
            log.exception("identity_look_failed")
            self._failed(IdentityUnavailableError(f"an unforeseen fault: {type(error).__name__}"))
        finally:
            self._looking = None

    def _succeeded(self, state: ProviderState) -> None:
        IDENTITY_READS.labels("good").inc()
        IDENTITY_KEYS_READ.set_to_current_time()
        if self._failure is not None or self._state is None or self._state.keys != state.keys:
            log.info(
                "identity_keys_read",
                issuer=state.discovery.issuer,
                keys=len(state.keys.keys),
                unusable=state.keys.unusable,
                algorithms=state.keys.algorithms,
            )
        self._state, self._failure = state, None
        self._read_at = self._clock()

    def _failed(self, error: IdentityUnavailableError) -> None:
        IDENTITY_READS.labels("failed").inc()
        known = str(self._failure)
        self._failure = error
        if str(error) != known:  # once, however long it lasts
            log.warning(
                "identity_provider_away",
                cause=str(error),
                consequence="its last keys stay good"
                if self._state is not None
                else "no token of it can be checked",
                advice="`delivery doctor` looks at it",
            )
