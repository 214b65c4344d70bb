"""A delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.delivery.formats import DEFAULT_FORMAT
from app.delivery.naming import object_key
from app.delivery.object_store import StoredObject, Upload
from app.delivery.segments import OrderPlan
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.errors import ErrorType


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a delivery ends, unless it turns out that its archive has appeared."""

    error_type: ErrorType
    message: str  # the cause, for its client
    code: str | None = None  # of the catalogue, as it is written: also one of a later version


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderError:
    """What rs-order said of an order that ended with errors."""

    error_type: ErrorType
    message: str
    files: int = 0  # that it counted in error: downloads that broke off may be among them


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A delivery as stored."""

    id: UUID  # its request's
    tenant: str
    correlation_id: str  # its client's name for it; of the active ones of a tenant no other has it
    state: State
    user: str  # the e-mail address for which rs-order is asked
    target: str  # the name of one of the tenant's targets
    order: dict[str, Any]  # queries, filters and user as received, for rs-order
    origin_app: str | None  # who is answered
    priority: int  # 1 to 255
    requested_at: datetime  # by the store's clock
    expires_at: datetime  # by the store's clock; an active one is ended then
    order_id: int | None = None  # rs-order's; None: it has not told it yet
    # That rs-order cut the order into, as it said last: the least, until the order is done.
    total_suborders: int | None = None
    order_done: bool = False  # it says that no further suborder comes
    order_error: OrderError | None = None  # and this, where it ends with errors
    announced: int = 0  # suborders that it says are available
    format: str = DEFAULT_FORMAT  # what its files are delivered as; maybe a later version's
    archive_template: str = ""  # what its archive is to be called; empty: as REGARDS calls it
    prefix_template: str = ""  # what comes before the folder of its correlation id; empty: nothing
    partial: bool = False  # what there is, is delivered, and what is missing is told
    labels: tuple[str, ...] = ()  # what its client calls it
    deadline: datetime | None = None  # its client's; None: it has the tenant's time
    plan: OrderPlan | None = None  # None: all was available when the archive was laid out
    parked: bool = False  # its archive is half-made, and goes on when a further suborder comes
    held: bool = False  # it waits for its quota: RECEIVED, of requests; READY, of bytes
    archive_name: str | None = None  # with its format's suffix; None: not planned yet
    prefix: str = ""  # what `prefix_template` has become, once it is planned
    file_count: int = 0  # of the manifest; 0: not planned yet
    total_bytes: int = 0  # of the manifest: the sum of the known sizes
    attempt: int = 0  # transfers begun; fences off the earlier ones
    failures: int = 0  # transfers ended by a wrong file or object
    retries: int = 0  # of its order, since one was for a file further on in the archive
    retried_for: int = -1  # the furthest position of a file that one was for
    tries: int = 0  # times that the work due now was given up for later
    last_cause: str | None = None  # why, the last time
    last_code: str | None = None  # of that, as it is written: also one of a later version
    trace: str | None = None  # W3C traceparent
    upload: Upload | None = None  # that the last attempt opened
    completing: StoredObject | None = None  # what an attempt was about to make appear
    ending: Ending | None = None  # noted while an attempt may have been completing its archive

    @property
    def work(self) -> Work | None:
        """What a worker can do for it now."""
        return None if self.parked or self.held else self.state.work

    @property
    def key(self) -> str:
        """Where its archive is, or comes, behind the prefix of its target; it is planned.

        All that goes to an archive goes by this one.
        """
        assert self.archive_name is not None  # noqa: S101 - it is planned
        return object_key(self.correlation_id, self.archive_name, prefix=self.prefix)

    def __str__(self) -> str:
        return f"delivery {self.correlation_id} of tenant {self.tenant}"

    @property
    def log_context(self) -> dict[str, str]:
        """What each line of the log names it by."""
        return {"tenant": self.tenant, "correlation_id": self.correlation_id}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldPlace:
    """A delivery that is done, whose order may keep one of its user's places at rs-order."""

    delivery: Delivery
    age: timedelta  # since it was done


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptPlaces:
    """A parked delivery whose order keeps places of its user for what was downloaded."""

    delivery: Delivery
    places: int  # at rs-order; more than 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A delivery that has ended, and how."""

    delivery: Delivery
    result: StoredObject | None  # of DONE
    error: tuple[str, str] | None  # of ERROR: the word of its type, and the cause
    told: Told = field(default_factory=Told)  # beside these


@dataclass(frozen=True, kw_only=True, slots=True)
class Denied:
    """A request that was denied, and why."""

    request: UUID  # its id
    error: tuple[str, str]  # the word of its type, and the reason
