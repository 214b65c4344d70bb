"""A target is tried by an upload that is begun and aborted: none is left open."""

from __future__ import annotations

import pytest

from app.delivery.targets import TargetCheck
from sinks.stores.s3.probe import Prober
from sinks.stores.s3.rights import try_rights
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.integration.guarded import Guarded, guarded_s3
from tests.integration.s3_proxy import Proxied


def writable(steps: list[TargetCheck]) -> TargetCheck:
    (step,) = (step for step in steps if step.check == "writable")
    return step


@pytest.mark.parametrize("asked", ["by a tenant", "by an operator"])
async def test_an_upload_whose_beginning_was_not_answered_is_found_and_aborted(
    sink: S3ObjectStore, target: S3Target, proxied: Proxied, asked: str
) -> None:
    proxy, through = proxied
    proxy.lost_begins = 1
    if asked == "by a tenant":
        steps = await Prober(sink.clients).probe(through)
    else:
        steps = await try_rights(sink.clients, through)
    assert "begin an upload" in writable(steps).message
    assert "begin" in proxy.seen
    assert await sink.open_uploads(target, ".rs-delivery-check/") == []


async def test_a_tenants_upload_that_could_not_be_aborted_is_not_begun(
    sink: S3ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with guarded_s3(tmp_path_factory.mktemp("s3")) as guarded:
        found = {}
        for missing in ((), ("s3:AbortMultipartUpload",), ("s3:PutObject",)):
            found[missing] = await tried(guarded, sink, missing)
    assert found[()] == TargetCheck(check="writable")
    without_abort = found[("s3:AbortMultipartUpload",)]
    assert not without_abort.ok
    assert without_abort.message.endswith("s3:AbortMultipartUpload is missing")
    assert "refused to begin an upload" in found[("s3:PutObject",)].message


async def tried(guarded: Guarded, sink: S3ObjectStore, missing: tuple[str, ...]) -> TargetCheck:
    bucket = await guarded.bucket()
    target = await guarded.user(without=missing, bucket=bucket)
    begun: list[str] = []
    async with sink.clients.of(target) as client:  # the one that is used again
        client.meta.events.register(
            "before-call.s3.CreateMultipartUpload", lambda **_: begun.append(bucket)
        )
    step = writable(await Prober(sink.clients).probe(target))
    assert await guarded.left(bucket) == []
    assert bool(begun) == ("s3:AbortMultipartUpload" not in missing)
    return step
