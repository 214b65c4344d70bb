"""What S3 servers are told of who asks."""

from __future__ import annotations

from typing import Any

import aioboto3
import botocore
import pytest

from app import __version__
from sinks.stores.s3.requests import config_for
from sinks.stores.s3.target import S3Target

TARGET = S3Target(endpoint="http://s3.example", region="r", key="k", secret="s", bucket="b")


class _SeenError(Exception):
    """The request was looked at; it goes nowhere."""


async def test_a_request_names_the_service_and_the_driver_and_no_more() -> None:
    seen: list[str] = []

    def look(request: Any, **_: Any) -> None:
        agent = request.headers["User-Agent"]
        seen.append(agent.decode() if isinstance(agent, bytes) else agent)
        raise _SeenError

    async with aioboto3.Session().client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="r",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=config_for(TARGET),
    ) as client:
        client.meta.events.register("before-send.s3", look)
        with pytest.raises(_SeenError):
            await client.head_object(Bucket="b", Key="k")
    (agent,) = seen
    assert agent.split() == [f"rs-delivery/{__version__}", f"botocore/{botocore.__version__}"]
