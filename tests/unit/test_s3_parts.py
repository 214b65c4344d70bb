"""A completion lists its parts as botocore would, and botocore is not asked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from app.delivery.object_store import StoredPart, Upload
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.parts import completion_body
from tests.builders import make_target

TARGET = make_target(endpoint="http://127.0.0.1:9")
UPLOAD = Upload(container="bucket", key="k", upload_id="u")


def stored(*etags: str) -> list[StoredPart]:
    return [StoredPart(etag=etag, md5=None) for etag in etags]


async def by_botocore(parts: Sequence[StoredPart]) -> bytes:
    """Return what botocore makes of the parts."""
    listed = [
        {"PartNumber": number, "ETag": f'"{part.etag}"'}
        for number, part in enumerate(parts, start=1)
    ]
    clients = S3Clients()
    async with clients.of(TARGET) as client:
        model = client.meta.service_model.operation_model("CompleteMultipartUpload")
        asked = {"Bucket": "b", "Key": "k", "UploadId": "u", "MultipartUpload": {"Parts": listed}}
        made = create_serializer(model.service_model.protocol)
        body = made.serialize_to_request(asked, model)["body"]
    await clients.aclose()
    return bytes(body)


@pytest.mark.parametrize(
    "parts",
    [stored("a"), stored("a" * 32, "b" * 32), stored("a&b<c>d'e\"f", "é\r\n"), stored(*"ab" * 600)],
    ids=["one", "two", "odd ETags", "many"],
)
async def test_parts_are_listed_as_botocore_lists_them(parts: list[StoredPart]) -> None:
    assert completion_body(parts) == await by_botocore(parts)


class SeenError(Exception):
    """A request would be sent now."""


async def test_a_completion_sends_the_list_of_its_parts_which_botocore_has_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed: list[object] = []
    bodies: list[bytes] = []
    validate = ParamValidator.validate

    def validated(self: ParamValidator, params: Mapping[str, Any], shape: Any) -> Any:
        listed.append(params.get("MultipartUpload", {}).get("Parts"))
        return validate(self, params, shape)

    monkeypatch.setattr(ParamValidator, "validate", validated)
    parts = stored("a" * 32, "b" * 32)

    def seen(request: Any, **_: object) -> None:
        bodies.append(request.body)
        raise SeenError

    async with open_store() as store:
        async with store.clients.of(TARGET) as client:
            client.meta.events.register("before-send.s3.CompleteMultipartUpload", seen)
        with pytest.raises(SeenError):
            await store.ask_to_complete(TARGET, UPLOAD, parts, {"IfNoneMatch": "*"})
    assert listed == [None]
    assert bodies == [completion_body(parts)]
