"""Named targets: chosen by name, kept as they say, and left as they were."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.states import State, Work
from app.delivery.targets import DEFAULT_TARGET
from app.errors import ErrorType, TargetRefusedError
from app.run.wiring.tenants import ConfigurationParts
from app.tenants.vault import Vault, make_key
from app.usecases.transfer import Transfers
from compose.embedded import s3
from compose.embedded.stack import TENANT
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import make_actor, make_body, make_lease, make_message
from tests.client import Client, contents
from tests.conftest import noise
from tests.integration.conftest import Deliveries
from tests.integration.transfers import Bench
from tests.twins.rs_order import Source

ACTOR = make_actor(name="admin")


async def test_storage_class_and_encryption_are_asked_for(
    sink: S3ObjectStore, target: S3Target
) -> None:
    kept = replace(target, storage_class="STANDARD_IA", encryption="AES256")
    bench = Bench(sink, kept, Source({"a": noise(1000)}))
    _, _, upload = await bench.run()
    async with s3.client(target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
        head = await store.head_object(Bucket=upload.container, Key=upload.key)
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")


async def test_buckets_can_be_a_part_of_the_host_name(target: S3Target) -> None:
    target = replace(target, endpoint="http://s3.example.org:9000", bucket="b-1")
    async with open_store() as sink:
        for style, url in (
            ("path", "http://s3.example.org:9000/b-1/k"),
            ("virtual", "http://b-1.s3.example.org:9000/k"),
        ):
            async with sink.clients.of(replace(target, addressing_style=style)) as client:
                signed = await client.generate_presigned_url(
                    "get_object", Params={"Bucket": target.bucket, "Key": "k"}
                )
            assert signed.partition("?")[0] == url


def server_of(target: S3Target) -> dict[str, object]:
    """Return a server as a setting."""
    scheme, _, rest = target.endpoint.partition("://")
    host, _, port = rest.partition(":")
    return {
        "scheme": scheme,
        "host": host,
        "port": int(port),
        "region": target.region,
        "key": target.key,
        "secret": target.secret,
    }


async def test_a_target_is_chosen_by_its_name(
    deliveries: Deliveries, configuration: ConfigurationParts, target: S3Target
) -> None:
    async def ask(name: str | None) -> None:
        correlation_id = f"c-{name}"
        body = make_body(correlation_id) | {"targetDelivery": name}
        message = make_message(correlation_id, body=body)
        await deliveries.receive(message, tenants=configuration.tenants)

    await ask("anything")
    anything = await deliveries.active("c-anything")
    assert (anything.state, anything.target) == (State.GRANTED, DEFAULT_TARGET)
    far = {"s3_server": server_of(target), "bucket": "far-away", "prefix": "/in/"}
    await configuration.configure.put(ACTOR, "delivery_targets", {"far": far})
    for name in ("far", "regards-s3-minio", None):
        await ask(name)
        assert (await deliveries.active(f"c-{name}")).state is State.GRANTED
    await ask("nowhere")
    denials = [body for _, body in await deliveries.owed() if body.get("status") == "DENIED"]
    (denied,) = denials
    assert denied["errorType"] == ErrorType.INVALID_CONTENT.value
    assert denied["message"] == (
        "targetDelivery 'nowhere' is unknown; there are far, regards-s3-minio"
    )
    chosen = configuration.tenants.settings(TENANT).target_named("far")
    assert chosen is not None
    assert (chosen.container, chosen.prefix) == ("far-away", "in/")


async def test_an_upload_is_aborted_where_it_was_opened(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, client: Client
) -> None:
    """Not where the tenant's settings point to by then."""
    uploads = deliveries.uploads(sink)
    await deliveries.ready()
    leases = deliveries.leases("dead")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    upload = uploads.located(await sink.create_upload(target, "moved/a.zip"), target)
    assert await leases.record_upload(claimed, upload)
    stored = await deliveries.pool.fetchval("SELECT upload_target FROM delivery")
    assert target.secret not in stored
    assert await client.open_uploads("moved") == ["moved/a.zip"]
    noted = await deliveries.active("c")
    await uploads.abort_last(noted)
    assert await client.open_uploads("moved") == []


async def test_an_old_target_that_refuses_does_not_hold_up_the_delivery(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target
) -> None:
    await deliveries.ready()
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    upload = await sink.create_upload(target, "c/a.zip")
    for seal in (deliveries.vault, Vault([make_key()])):  # the second's key is not known here
        elsewhere = replace(deliveries.uploads(sink), seal=seal).located(
            upload, replace(target, bucket="gone-bucket")
        )
        assert await leases.record_upload(claimed, elsewhere)
        await deliveries.uploads(sink).abort_last(await deliveries.active("c"))
    await sink.abort(target, upload)


async def test_a_target_that_was_removed_meanwhile_fails_the_delivery_in_words(
    deliveries: Deliveries, sink: S3ObjectStore
) -> None:
    await deliveries.ready()
    await deliveries.pool.execute("UPDATE delivery SET target = 'gone'")
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    tenants = deliveries.tenants
    tenants.give(TENANT, targets={"other": tenants.settings(TENANT).target})
    transfers = Transfers(
        store=deliveries.store,
        leases=leases,
        tenants=tenants,
        objects=sink,
        uploads=deliveries.uploads(sink),
        checkpoints=deliveries.checkpoints("w"),
        archiver=None,  # type: ignore[arg-type]  # it does not come to that
        segments=deliveries.segments(),
    )

    with pytest.raises(TargetRefusedError, match="target gone is not among the delivery_targets"):
        await transfers.deliver(claimed, make_lease())


async def test_a_running_transfer_keeps_the_target_it_began_with(
    deliveries: Deliveries,
    configuration: ConfigurationParts,
    sink: S3ObjectStore,
    target: S3Target,
    client: Client,
) -> None:
    files = {f"f{n}": b"x" * n for n in range(3)}

    class Moving(Source):
        """The tenant moves away while the first file is read."""

        async def chunks(
            self, delivery: Delivery, file: ManifestFile
        ) -> AsyncGenerator[bytes, None]:
            if not self.moved:
                self.moved = True
                await configuration.configure.put(ACTOR, "delivery_bucket", "another-bucket")
            async for piece in super().chunks(delivery, file):
                yield piece

        moved = False

    source = Moving(files)
    await deliveries.ready("moves")
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    transfers = Transfers(
        store=deliveries.store,
        leases=leases,
        tenants=configuration.tenants,
        objects=sink,
        uploads=replace(deliveries.uploads(sink), seal=configuration.vault),
        checkpoints=deliveries.checkpoints("w"),
        archiver=Bench(sink, target, source).archiver(),
        segments=deliveries.segments(source),
    )

    await transfers.deliver(claimed, make_lease())
    assert source.moved
    assert configuration.tenants.settings(TENANT).target.container == "another-bucket"
    (done,) = [body for _, body in await deliveries.owed() if body.get("status") == "DONE"]
    assert done["url"].startswith(f"s3://{target.bucket}/moves/")
    assert contents(await client.fetch(done["url"])) == files
