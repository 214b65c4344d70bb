"""One maker of each domain value: what a test doesn't say of it, it doesn't depend on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import jwt

from app.audit import Actor, AuditRecord
from app.delivery.checkpoint import Checkpoint, FinishedMember, SavedStep, Step, Tail
from app.delivery.ingress import (
    Arrival,
    ArrivalKind,
    Cancel,
    DeliveryRequest,
    IncomingMessage,
    Ingress,
)
from app.delivery.kept_files import KeptFile, SentPart
from app.delivery.lease import Lease
from app.delivery.manifest import ListedFile, Manifest, ManifestFile
from app.delivery.messages import DeliveryProgressDtoEvent
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, PartBody, StoredObject, Upload
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.outgoing import Kind, OutgoingMessage
from app.delivery.progress import Phase, Progress
from app.delivery.states import State
from app.delivery.targets import DEFAULT_TARGET
from app.errors import LeaseLostError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.tenants.registry import ConfiguredTenants
from app.tenants.values import TenantSettings
from app.views.dead_letters import BuriedLetter, DeadLetter, LetterKind
from app.waiting.places import Places
from compose.embedded.stack import TENANT, USER
from sinks.formats import FORMATS
from sinks.formats.archive_format import ArchiveFormat, Member
from sinks.stores.s3.target import S3Target
from streams.kafka.dispatch import PendingEvent


async def at_any_time() -> None:
    """Allow an object to be put."""


class Clock:
    """Stands still until it is set; in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_delivery(**changes: Any) -> Delivery:
    """Return a delivery that was granted just now."""
    now = datetime.now(UTC)
    made = Delivery(
        id=uuid4(),
        tenant=TENANT,
        correlation_id="c",
        state=State.GRANTED,
        user=USER,
        target=DEFAULT_TARGET,
        order={"user": USER, "queries": ["*:*"]},
        origin_app=None,
        priority=1,
        requested_at=now,
        expires_at=now + timedelta(hours=1),
    )
    return replace(made, **changes)


def make_transfer(**changes: Any) -> Delivery:
    """Return a delivery whose first attempt is under way."""
    return make_delivery(**{"state": State.TRANSFERRING, "attempt": 1} | changes)


def make_lease(ttl: float = 30.0, *, clock: Callable[[], float] = lambda: 0.0) -> Lease:
    """Return a lease, with a slot that no other work wants; by a clock that stands still."""
    return Lease(ttl, Places(1, changed=lambda: None), clock=clock)


# Where archives are put


def make_target(**changes: Any) -> S3Target:
    """Return a target that no server answers for, unless an endpoint is given."""
    made = S3Target(endpoint="http://s3.example", region="r", key="k", secret="s", bucket="bucket")
    return replace(made, **changes)


def make_upload(**changes: Any) -> Upload:
    """Return an upload that is open somewhere."""
    return replace(Upload(container="bucket", key="c/a.zip", upload_id="u"), **changes)


def make_stored(upload: Upload | None = None, **changes: Any) -> StoredObject:
    """Return the archive that an upload became."""
    upload = upload or make_upload()
    url = make_target(bucket=upload.container).url_of(upload.key)
    return replace(StoredObject(url=url, md5="0" * 32, size=1), **changes)


def make_found(**changes: Any) -> FoundObject:
    """Return an object as it is found at a target."""
    return replace(FoundObject(size=1, etag="e"), **changes)


def make_s3_server(**changes: Any) -> dict[str, Any]:
    """Return the setting `s3_server` of a tenant."""
    return {
        "scheme": "https",
        "host": "s3.example.org",
        "port": 9000,
        "region": "eu",
        "key": "k",
        "secret": "hunter2-the-secret",
    } | changes


def make_tenant_settings(**changes: Any) -> TenantSettings:
    """Return what a tenant has configured."""
    made = TenantSettings(
        request_ttl=timedelta(hours=1), order_size_limit_bytes=10**12, target=make_target()
    )
    return replace(made, **changes)


# Files


def make_listed(
    filename: str = "a.bin", content: bytes | None = None, **changes: Any
) -> ListedFile:
    """Return a file as rs-order lists it; with its size and checksum if its content is given."""
    made = ListedFile(file_id=1, product_id="P", version=1, filename=filename, size=None, md5=None)
    return replace(made, **_of(content) | changes)


def make_file(member: str = "a.bin", content: bytes | None = None, **changes: Any) -> ManifestFile:
    """Return a file of a manifest; with its size and checksum if its content is given."""
    made = ManifestFile(position=0, file_id=1, member=member, size=None, md5=None)
    return replace(made, **_of(content) | changes)


def _of(content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {}
    return {"size": len(content), "md5": hashlib.md5(content).hexdigest()}


def list_files(files: Mapping[str, bytes]) -> list[ListedFile]:
    """Return files as rs-order lists them, of one product."""
    return [
        make_listed(name, content, file_id=number)
        for number, (name, content) in enumerate(files.items())
    ]


def plan_files(files: Mapping[str, bytes]) -> list[ManifestFile]:
    """Return the manifest of files."""
    return [
        make_file(name, content, position=number, file_id=number)
        for number, (name, content) in enumerate(files.items())
    ]


def name_bytes(names: Iterable[str]) -> int:
    """Return what all names have together, in UTF-8."""
    return sum(len(name.encode()) for name in names)


def make_manifest(files: list[ManifestFile], archive_name: str = "P_v1.zip") -> Manifest:
    """Return what is kept of a manifest beside its files."""
    size = sum(file.size or 0 for file in files)
    return Manifest(archive_name=archive_name, file_count=len(files), total_bytes=size)


# What comes in


def make_ingress(kind: ArrivalKind = ArrivalKind.REQUEST, **changes: Any) -> Ingress:
    """Return how a message of this kind arrived just now."""
    made = Ingress(
        id=uuid4(),
        kind=kind,
        digest=uuid4().bytes * 2,
        redelivered=False,
        received_at=datetime.now(UTC),
    )
    return replace(made, **changes)


_INGRESS = {field.name for field in fields(Ingress)}
_Arrived = TypeVar("_Arrived", IncomingMessage, OrderEvent, Cancel)


def _arrived(made: _Arrived, changes: dict[str, Any]) -> _Arrived:
    """Return what arrived with its changes, be they of it or of its ingress."""
    assert made.ingress is not None
    ingress = replace(made.ingress, **{k: v for k, v in changes.items() if k in _INGRESS})
    rest = {k: v for k, v in changes.items() if k not in _INGRESS}
    return replace(made, **{"ingress": ingress} | rest)


def make_message(correlation_id: str = "c", **changes: Any) -> IncomingMessage:
    """Return a good request that arrived just now as a message."""
    made = IncomingMessage(
        ingress=make_ingress(),
        tenant=TENANT,
        correlation_id=correlation_id,
        origin_app="app",
        priority=1,
        body=make_body(correlation_id),
    )
    return _arrived(made, changes)


def make_request(correlation_id: str = "c", **changes: Any) -> DeliveryRequest:
    """Return a good request."""
    made = DeliveryRequest(
        id=uuid4(),
        tenant=TENANT,
        correlation_id=correlation_id,
        origin_app="app",
        priority=1,
        target=DEFAULT_TARGET,
        user=USER,
        order=make_body()["order"],
    )
    return replace(made, **changes)


def make_body(correlation_id: str = "c", **order: Any) -> dict[str, Any]:
    """Return the body of a good request, as a client sends it."""
    return {"correlationId": correlation_id, "order": {"user": USER, "queries": ["*:*"]} | order}


def make_cancel(**changes: Any) -> Cancel:
    """Return a cancel that arrived just now."""
    made = Cancel(
        ingress=make_ingress(ArrivalKind.CANCEL),
        tenant=TENANT,
        correlation_id="c",
        origin_app="app",
        reason=None,
    )
    return _arrived(made, changes)


def make_order_event(status: OrderStatus = OrderStatus.DONE, **changes: Any) -> OrderEvent:
    """Return what rs-order said of an order just now."""
    made = OrderEvent(
        tenant=TENANT,
        correlation_id="c",
        status=status,
        ingress=make_ingress(ArrivalKind.ORDER_EVENT),
    )
    return _arrived(made, changes)


def make_arrival(ingress: Ingress | None = None, **changes: Any) -> Arrival:
    """Return an arrival as it is saved; of a message that is known, or of any request."""
    ingress = ingress or make_ingress()
    made = Arrival(ingress_id=ingress.id, kind=ingress.kind, key=b"t/c", value=b"event")
    return replace(made, **changes)


def make_event(value: bytes = b"event", *, key: bytes = b"t/c", **changes: Any) -> PendingEvent:
    """Return an event that was read from Kafka; none is told that it is acknowledged."""
    fields: dict[str, Any] = {"partition": 0, "acknowledge": lambda: None} | changes
    return PendingEvent(key=key, value=value, **fields)


# What goes out


def make_outgoing(**changes: Any) -> OutgoingMessage:
    """Return a message that is owed to the client."""
    made = OutgoingMessage(
        delivery_id=uuid4(),
        kind=Kind.RESPONSE,
        message_id=uuid4(),
        tenant=TENANT,
        correlation_id="c",
        priority=1,
        origin_app=None,
        body={"correlationId": "c"},
    )
    return replace(made, **changes)


def make_progress(of: Delivery | None = None, **changes: Any) -> Progress:
    """Return a report of a transfer; of a delivery, or of one that no report names."""
    made = Progress(
        tenant=TENANT,
        correlation_id="c",
        attempt=1,
        phase=Phase.TRANSFERRING,
        bytes_done=1,
        bytes_total=10,
        files_done=0,
        files_total=1,
        elapsed=1,
    )
    if of is not None:
        made = replace(made, tenant=of.tenant, correlation_id=of.correlation_id, delivery=of.id)
    return replace(made, **changes)


def make_told_progress(**changes: Any) -> DeliveryProgressDtoEvent:
    """Return what a client is told of a transfer in its midst."""
    made = DeliveryProgressDtoEvent(
        correlation_id="c",
        delivery_id=str(uuid4()),
        activity="TRANSFERRING",
        attempt=1,
        bytes_done=1,
        bytes_total=10,
        files_done=0,
        files_total=1,
        time="2026-01-31T12:00:00Z",
    )
    return made.model_copy(update=changes)


# Who does something


def make_actor(**changes: Any) -> Actor:
    """Return an administrator of the tenant."""
    return replace(Actor(name="admin@example.org", role="ADMIN", tenant=TENANT), **changes)


def make_done(actor: Actor | None = None, **changes: Any) -> AuditRecord:
    """Return what is noted of a change."""
    made = AuditRecord(
        actor=actor or make_actor(),
        action="set",
        subject="request_ttl",
        before=None,
        after=None,
    )
    return replace(made, **changes)


def make_dead_letter(**changes: Any) -> DeadLetter:
    """Return a dead letter."""
    made = DeadLetter(
        id="amqp:1",
        place="q.DLQ",
        tenant=TENANT,
        correlation_id="c",
        at=None,
        size=1,
        reason="no JSON",
        text="x",
    )
    return replace(made, **changes)


def make_buried(letter_id: str, **changes: Any) -> BuriedLetter:
    """Return what is kept of a message that was buried; its size is that of its body."""
    body = changes.get("body", b"{")
    made = BuriedLetter(
        id=letter_id,
        kind=LetterKind.AMQP,
        place="requests.DLQ",
        origin="requests",
        tenant=TENANT,
        ours=True,
        correlation_id="c",
        reason="the body is no JSON",
        at=None,
        size=len(body),
        body=body,
    )
    return replace(made, **changes)


def make_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of an administrator's token; None leaves one out."""
    good = {
        "tenant": TENANT,
        "sub": "admin@example.org",
        "email": "admin@example.org",
        "role": "PROJECT_ADMIN",
        "exp": int(time.time()) + 3600,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def make_token(key: str, *, algorithm: str = "HS512", **changes: Any) -> str:
    """Return a signed token with these claims."""
    return jwt.encode(make_claims(**changes), key, algorithm=algorithm)


class GivenTenants(ConfiguredTenants):
    """The real ones, but for those that a test gives what holds for them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, KINDS)
        self._given: dict[str, TenantSettings] = {}

    def settings(self, tenant: str) -> TenantSettings:
        """Return what was given, else what the tenant has set."""
        return self._given.get(tenant) or super().settings(tenant)

    def give(self, tenant: str, **changes: Any) -> None:
        """Let something else hold for a tenant than now."""
        self._given[tenant] = replace(self.settings(tenant), **changes)


def archive_format(suffix: str) -> ArchiveFormat:
    """Return the format of archives whose names end like that."""
    return next(each for each in FORMATS if each.suffix == suffix)


def archive_blocks(
    of_format: ArchiveFormat, *segments: Iterable[Member], compression: str = "auto"
) -> Iterator[bytes]:
    """Yield the bytes of the archive that a format makes of members, segment by segment."""
    writer = of_format.writer(compression=compression)
    try:
        for members in segments:
            for batch in writer.batches(members):
                yield from batch
        yield from writer.end()
    finally:
        writer.close()


def checkpoint_of(steps: Sequence[Step]) -> Checkpoint:
    """Return what steps lead to, whose members are at hand."""
    by_reach = {step.reaches: step.members for step in steps}

    async def load(step: SavedStep) -> Sequence[FinishedMember]:
        return by_reach[step.reaches]

    return Checkpoint.of([step.saved for step in steps], load)


async def not_saved(_step: Step) -> bool:
    """Save nothing of a half-made archive."""
    return False


async def never_put(_rest: PartBody) -> Tail:
    """Put nothing aside: the archive does not pause."""
    raise AssertionError("it pauses")


@dataclass
class OpenFolder:
    """A place beside an object where files may be put."""

    may_be_there: bool = False
    cleared: list[str] = field(default_factory=list)
    kept: dict[int, KeptFile] = field(default_factory=dict)  # by position
    may: bool = True  # whether the lease holds
    keeps: bool = False  # what is half-sent, for the next one

    def leaves_open(self) -> None:
        pass

    async def may_put(self) -> None:
        if not self.may:
            raise LeaseLostError("its lease ran out")

    async def clear(self, key: str) -> None:
        self.cleared.append(key)

    async def resume(self, file: ManifestFile, *, at_most: int) -> KeptFile | None:
        assert at_most > 0
        return self.kept.get(file.position)

    async def keep(
        self,
        file: ManifestFile,
        upload: Upload,
        *,
        part_size: int,
        step: int,
        parts: Sequence[SentPart],
    ) -> bool:
        if not self.keeps:
            return False
        before = self.kept.get(file.position)
        saved = {} if before is None else dict(before.saved)
        saved |= {part.number: part for part in parts}
        there = {number: part.stored.etag for number, part in saved.items()}
        self.kept[file.position] = KeptFile(
            upload=upload, part_size=part_size, steps=step, saved=saved, there=there
        )
        return True

    async def forget(self, file: ManifestFile) -> None:
        self.kept.pop(file.position, None)
