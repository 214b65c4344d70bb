"""S3's rights: with the documented policy all is done, and each right that is missing is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.errors import TargetRefusedError
from sinks.pipeline.parts import Part
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.rights import CHECKS, try_rights
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import make_found
from tests.integration.guarded import Guarded, documented, guarded_s3

ACTIONS = [action for statement in documented()["Statement"] for action in statement["Action"]]


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarded_s3(tmp_path_factory.mktemp("s3")) as opened:
        yield opened


async def deliver(sink: S3ObjectStore, target: S3Target) -> None:
    """Do all that the service does at a target. Raises what it raises."""
    await sink.find_bucket(target)
    key = f"d-{uuid4().hex}/a.zip"
    assert await sink.find(target, key) is None
    upload = await sink.create_upload(target, key, {"tenant": "sentinel"})
    assert await sink.open_uploads(target, key) == [upload]
    part = await sink.put_part(target, upload, 1, Part.of(b"bytes"))
    await sink.check_open(target, upload)
    etag = await sink.complete(target, upload, [part], 5, marks={"tenant": "sentinel"})
    found = await sink.find(target, key)
    assert found == make_found(size=5, etag=etag, marks={"tenant": "sentinel"})
    await sink.delete(target, key, etag=etag)
    await sink.put_aside(target, f"{key}.unfinished-1", Part.of(b"the rest"), {})
    assert await sink.read_aside(target, f"{key}.unfinished-1", size=8) == [b"the rest"]
    await sink.drop_aside(target, f"{key}.unfinished-1")
    given_up = await sink.create_upload(target, key)
    await sink.abort(target, given_up)


@pytest.fixture
async def sink() -> AsyncIterator[S3ObjectStore]:
    async with open_store() as opened:
        yield opened


async def test_the_documented_policy_is_enough(guarded: Guarded, sink: S3ObjectStore) -> None:
    target = await guarded.user()
    await deliver(sink, target)
    assert await guarded.left() == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_each_right_that_is_missing_is_missed_and_named(
    guarded: Guarded, sink: S3ObjectStore, action: str
) -> None:
    target = await guarded.user(without=[action])
    if action in CHECKS:
        tried = {step.check: step for step in await try_rights(sink.clients, target)}
        wrong = [check for check, step in tried.items() if not step.ok]
        assert CHECKS[action] in wrong
        assert tried[CHECKS[action]].message.endswith(f"{action} is missing")
        assert set(wrong) <= {CHECKS[action], "writable"}
    if action == "s3:ListMultipartUploadParts":
        return  # it is asked only where a part fails; then its refusal is no answer
    with pytest.raises(TargetRefusedError, match=r"AccessDenied|403"):
        await deliver(sink, target)


async def test_trying_rights_leaves_nothing_behind_not_even_a_mark_of_a_deletion(
    guarded: Guarded, sink: S3ObjectStore
) -> None:
    bucket = await guarded.bucket()
    await guarded.store.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    steps = await try_rights(sink.clients, await guarded.user(bucket=bucket))
    assert [step.message for step in steps] == ["yes"] * len(steps)
    assert await guarded.left(bucket) == []


async def test_an_upload_that_could_not_be_aborted_is_not_begun(
    guarded: Guarded, sink: S3ObjectStore
) -> None:
    bucket = await guarded.bucket()
    target = await guarded.user(without=["s3:AbortMultipartUpload"], bucket=bucket)
    steps = {step.check: step.message for step in await try_rights(sink.clients, target)}
    assert steps["writable"].startswith("not tried")
    assert await guarded.left(bucket) == []
