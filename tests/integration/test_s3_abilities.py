"""What a store makes of what deliveries ask of it is found out, and said."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from app.delivery.targets import TargetCheck
from compose.embedded import s3
from sinks.stores.s3.abilities import ABILITIES, OF_UPLOADS, UNTRIED, try_abilities
from sinks.stores.s3.rights import try_target
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client
from tests.integration.conftest import abort_all
from tests.integration.guarded import guarded_s3
from tests.integration.s3_proxy import Completes, Proxied
from tests.targets import MAKE

CONDITIONS_OF_COMPLETIONS = {"If-None-Match of a completion", "If-Match of a completion"}
only_moto = pytest.mark.skipif(MAKE is not None, reason="of the server that all have")


def lacking(steps: list[TargetCheck]) -> set[str]:
    """Return what a store can't, and deliveries do without."""
    return {step.check for step in steps if step.note}


async def test_what_the_server_of_the_tests_cannot_is_what_is_known_of_it_and_nothing_is_left(
    sink: S3ObjectStore, target: S3Target, client: Client
) -> None:
    steps = await try_abilities(sink, target)
    assert [step.check for step in steps] == [ability.check for ability in ABILITIES]
    assert [step for step in steps if not step.ok] == []
    assert lacking(steps) == set(MAKE.lacks if MAKE else s3.LACKS)
    assert await client.objects(".rs-delivery-check") == []
    assert await client.open_uploads(".rs-delivery-check") == []


@only_moto
@pytest.mark.parametrize(
    ("habits", "lacks"),
    [
        ({"completes": Completes.ON_CONDITION}, set()),
        ({"completes": Completes.ANYHOW}, CONDITIONS_OF_COMPLETIONS),
        ({"completes": Completes.ON_NONE}, CONDITIONS_OF_COMPLETIONS),
        ({"completes": Completes.NEVER}, {"If-Match of a completion"}),
        ({"no_conditions": True}, {"If-Match of a DELETE"}),
        ({"kms": True}, {"MD5s as ETags"}),
        ({"in_gos_case": True}, set()),
        ({"unknown_is_500": True}, set()),
    ],
)
async def test_each_habit_of_other_stores_is_told(
    sink: S3ObjectStore,
    proxied: Proxied,
    client: Client,
    habits: dict[str, object],
    lacks: set[str],
) -> None:
    proxy, through = proxied
    for name, habit in habits.items():
        setattr(proxy, name, habit)
    steps = await try_abilities(sink, through)
    assert [step for step in steps if not step.ok] == []
    assert lacking(steps) - {"Content-MD5 of a part"} == lacks
    assert await client.objects(".rs-delivery-check") == []


@only_moto
async def test_what_follows_is_told_with_the_store_s_own_refusal(
    sink: S3ObjectStore, proxied: Proxied
) -> None:
    proxy, through = proxied
    proxy.completes = Completes.ON_NONE
    found = {step.check: step.message for step in await try_abilities(sink, through)}
    message = found["If-None-Match of a completion"]
    assert "(NotImplemented)" in message
    assert "there is a look before" in message


async def test_a_store_whose_aborted_uploads_become_objects_is_a_problem(
    sink: S3ObjectStore, target: S3Target, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        """What such a store does."""

    with monkeypatch.context() as patched:
        patched.setattr(sink, "abort", nothing)
        steps = await try_abilities(sink, target)
    wrong = {step.check: step.flaw for step in steps if not step.ok}
    assert "becomes an object all the same" in wrong["aborted uploads"]
    assert await client.objects(".rs-delivery-check") == []
    for upload in await client.open_uploads(".rs-delivery-check"):
        await abort_all(sink, target, upload)


async def test_a_store_that_does_not_answer_is_not_taken_for_one_that_cannot(
    sink: S3ObjectStore, proxied: Proxied
) -> None:
    proxy, through = proxied
    proxy.away = True
    steps = await try_abilities(sink, through)
    assert lacking(steps) == {UNTRIED}
    assert [step.ok for step in steps] == [False] * len(OF_UPLOADS) + [True]


@only_moto
async def test_no_object_is_made_where_it_would_stay(sink: S3ObjectStore, target: S3Target) -> None:
    bucket = f"versions-{uuid4().hex[:8]}"
    async with s3.client(target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
        await store.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": s3.REGION}
        )
        await store.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        steps = await try_abilities(sink, replace(target, bucket=bucket))
        left = await store.list_object_versions(Bucket=bucket)
        opened = await store.list_multipart_uploads(Bucket=bucket)
    assert [step.check for step in steps] == [*(each.check for each in OF_UPLOADS), UNTRIED]
    assert "the bucket keeps versions" in steps[-1].note
    assert {"Versions", "DeleteMarkers"}.isdisjoint(left)
    assert "Uploads" not in opened


@only_moto
async def test_no_object_is_made_where_it_is_not_known_whether_it_would_stay(
    sink: S3ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with guarded_s3(tmp_path_factory.mktemp("s3")) as guarded:
        steps = await try_target(sink, await guarded.user())
        assert "without s3:GetBucketVersioning" in steps[-1].note
        assert [step for step in steps if not step.ok] == []
        without = await guarded.user(without=["s3:ListMultipartUploadParts"])
        steps = await try_target(sink, without)
        assert steps[-1].check == "parts listed"  # a right is missing: that is told alone
        assert await guarded.left() == []
