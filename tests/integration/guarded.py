"""An S3 server that checks signatures and policies, and the policy of docs/least-rights.md."""

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

from compose.embedded import s3
from sinks.stores.s3.target import S3Target
from tests.builders import make_target

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "least-rights.md"
BUCKET = "deliveries"
# The server of the tests asks for HeadBucket by a name of its own; S3 calls that right ListBucket.
ALIASES = {"s3:ListBucket": "s3:HeadBucket"}


def documented() -> dict[str, Any]:
    """Return the policy of the docs."""
    (text,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    policy: dict[str, Any] = json.loads(text)
    return policy


class Guarded:
    """An S3 server that lets no user do what no policy allows, and its administrator."""

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
        policy["Statement"] = [
            statement for statement in policy["Statement"] if statement["Action"]
        ]
        name = f"user-{uuid4().hex[:8]}"
        await self._iam.create_user(UserName=name)
        await self._iam.put_user_policy(
            UserName=name, PolicyName="delivery", PolicyDocument=json.dumps(policy)
        )
        key = (await self._iam.create_access_key(UserName=name))["AccessKey"]
        return make_target(
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
