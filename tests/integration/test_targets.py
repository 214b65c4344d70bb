"""What a target says of how objects are kept reaches the store."""

from __future__ import annotations

from dataclasses import replace

from app.model import S3Target
from compose.embedded import s3
from sinks.s3 import S3Sink, open_sink
from tests.conftest import noise
from tests.integration.transfers import Bench, Source


async def test_storage_class_and_encryption_are_asked_for(sink: S3Sink, target: S3Target) -> None:
    kept = replace(target, storage_class="STANDARD_IA", encryption="AES256")
    bench = Bench(sink, kept, Source({"a": noise(1000)}))
    _, _, upload = await bench.run()
    async with s3.client(target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
        head = await store.head_object(Bucket=upload.bucket, Key=upload.key)
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")


async def test_buckets_can_be_a_part_of_the_host_name(target: S3Target) -> None:
    target = replace(target, endpoint="http://s3.example.org:9000", bucket="b-1")
    async with open_sink() as sink:
        for style, url in (
            ("path", "http://s3.example.org:9000/b-1/k"),
            ("virtual", "http://b-1.s3.example.org:9000/k"),
        ):
            client = await sink._client(replace(target, addressing_style=style))
            signed = await client.generate_presigned_url(
                "get_object", Params={"Bucket": target.bucket, "Key": "k"}
            )
            assert signed.partition("?")[0] == url
