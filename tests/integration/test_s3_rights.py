"""S3's rights: with the documented policy all is done, and each right that is missing is named."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aioboto3
import aiohttp
import pytest

from app.errors import TargetRefusedError
from app.model import FoundObject, S3Target, Upload
from compose.embedded import s3
from sinks.parts import Part
from sinks.rights import try_rights
from sinks.s3 import S3Sink, open_sink

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "least-rights.md"
BUCKET = "deliveries"
# The server of the tests asks for HeadBucket by a name of its own; S3 calls that right ListBucket.
ALIASES = {"s3:ListBucket": "s3:HeadBucket"}
CHECKS = {
    "s3:AbortMultipartUpload": "uploads aborted",
    "s3:PutObject": "writable",
    "s3:GetObject": "readable",
    "s3:DeleteObject": "removable",
    "s3:ListBucketMultipartUploads": "uploads listed",
    "s3:ListMultipartUploadParts": "parts listed",
}


def documented() -> dict[str, Any]:
    """Return the policy of the docs."""
    (text,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    policy: dict[str, Any] = json.loads(text)
    return policy


ACTIONS = [action for statement in documented()["Statement"] for action in statement["Action"]]


class Guarded:
    """An S3 server that lets nobody do what no policy allows, and its administrator."""

    def __init__(self, endpoint: str, iam: Any, store: Any) -> None:
        self.endpoint = endpoint
        self.store = store
        self._iam = iam

    async def user(self, *, without: Iterable[str] = (), bucket: str = BUCKET) -> S3Target:
        """Make a key with the documented policy, but for some actions; return the target."""
        policy = json.loads(json.dumps(documented()).replace(BUCKET, bucket))
        for statement in policy["Statement"]:
            kept = [action for action in statement["Action"] if action not in without]
            statement["Action"] = kept + [ALIASES[a] for a in kept if a in ALIASES]
        policy["Statement"] = [one for one in policy["Statement"] if one["Action"]]
        name = f"user-{uuid4().hex[:8]}"
        await self._iam.create_user(UserName=name)
        await self._iam.put_user_policy(
            UserName=name, PolicyName="delivery", PolicyDocument=json.dumps(policy)
        )
        key = (await self._iam.create_access_key(UserName=name))["AccessKey"]
        return S3Target(
            endpoint=self.endpoint,
            region=s3.REGION,
            key=key["AccessKeyId"],
            secret=key["SecretAccessKey"],
            bucket=bucket,
        )

    async def bucket(self) -> str:
        """Make another bucket; return its name."""
        name = f"bucket-{uuid4().hex[:8]}"
        await self.store.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": s3.REGION}
        )
        return name

    async def left(self, bucket: str = BUCKET) -> list[Any]:
        """Return what is in a bucket: objects, versions, marks of deletion and open uploads."""
        versions = await self.store.list_object_versions(Bucket=bucket)
        uploads = await self.store.list_multipart_uploads(Bucket=bucket)
        return [
            *versions.get("Versions", []),
            *versions.get("DeleteMarkers", []),
            *uploads.get("Uploads", []),
        ]


@asynccontextmanager
async def guarded_s3(folder: Path) -> AsyncIterator[Guarded]:
    """Run a server that checks signatures and policies."""
    async with s3.s3(folder) as server:
        session: Any = aioboto3.Session()
        where: dict[str, Any] = {"endpoint_url": server.url, "region_name": s3.REGION}
        start = {"aws_access_key_id": "start", "aws_secret_access_key": "start"}
        async with session.client("iam", **where, **start) as iam:
            await iam.create_user(UserName="admin")
            await iam.put_user_policy(
                UserName="admin",
                PolicyName="all",
                PolicyDocument=json.dumps(
                    {
                        "Version": "2012-10-17",
                        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
                    }
                ),
            )
            key = (await iam.create_access_key(UserName="admin"))["AccessKey"]
        signed = {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{server.url}/moto-api/reset-auth", data=b"0") as answer,
        ):
            assert answer.status == 200
        async with (
            session.client("iam", **where, **signed) as iam,
            session.client("s3", **where, **signed) as store,
        ):
            yield Guarded(server.url, iam, store)


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarded_s3(tmp_path_factory.mktemp("s3")) as opened:
        yield opened


async def deliver(sink: S3Sink, target: S3Target) -> None:
    """Do all that the service does at a target. Raises what it raises."""
    await sink.find_bucket(target)
    key = f"d-{uuid4().hex}/a.zip"
    assert await sink.find(target, Upload(bucket=BUCKET, key=key, upload_id="-")) is None
    upload = await sink.begin(target, key, {"tenant": "sentinel"})
    assert await sink.open_uploads(target, key) == [upload]
    part = await sink.put_part(target, upload, 1, Part.of(b"bytes"))
    await sink._check_open(target, upload)
    etag = await sink.complete(target, upload, [part], 5, marks={"tenant": "sentinel"})
    found = await sink.find(target, upload)
    assert found == FoundObject(size=5, etag=etag, marks={"tenant": "sentinel"})
    await sink.delete(target, upload, etag=etag)
    given_up = await sink.begin(target, key)
    await sink.abort(target, given_up)


@pytest.fixture
async def sink() -> AsyncIterator[S3Sink]:
    async with open_sink() as opened:
        yield opened


async def test_the_documented_policy_is_enough(guarded: Guarded, sink: S3Sink) -> None:
    target = await guarded.user()
    await deliver(sink, target)
    assert await guarded.left() == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_each_right_that_is_missing_is_missed_and_named(
    guarded: Guarded, sink: S3Sink, action: str
) -> None:
    target = await guarded.user(without=[action])
    if action in CHECKS:
        tried = {step["check"]: step for step in await try_rights(sink.clients, target)}
        wrong = [check for check, step in tried.items() if not step["ok"]]
        assert CHECKS[action] in wrong
        assert tried[CHECKS[action]]["message"].endswith(f"{action} is missing")
        assert set(wrong) <= {CHECKS[action], "writable"}
    if action == "s3:ListMultipartUploadParts":
        return  # it is asked only where a part fails; then its refusal is no answer
    with pytest.raises(TargetRefusedError, match=r"AccessDenied|403"):
        await deliver(sink, target)


async def test_trying_rights_leaves_nothing_behind_not_even_a_mark_of_a_deletion(
    guarded: Guarded, sink: S3Sink
) -> None:
    bucket = await guarded.bucket()
    await guarded.store.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    steps = await try_rights(sink.clients, await guarded.user(bucket=bucket))
    assert [step["message"] for step in steps] == ["yes"] * len(steps)
    assert await guarded.left(bucket) == []


async def test_an_upload_that_could_not_be_aborted_is_not_begun(
    guarded: Guarded, sink: S3Sink
) -> None:
    bucket = await guarded.bucket()
    target = await guarded.user(without=["s3:AbortMultipartUpload"], bucket=bucket)
    steps = {step["check"]: step["message"] for step in await try_rights(sink.clients, target)}
    assert steps["writable"].startswith("not tried")
    assert await guarded.left(bucket) == []
