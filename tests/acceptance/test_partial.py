"""Requests that take what there is: DONE, manifest and archive tell the same of each file."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from tests.acceptance.conftest import Setting
from tests.client import Client, request_for
from tests.conftest import noise
from tests.readers import READERS
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]

MIB = 1024 * 1024
SEEDS = range(4)
FORMATS = ("zip", "tar", "tar.zst", "files")


@pytest.fixture
async def lossy(standin: StandIn) -> AsyncIterator[StandIn]:
    """rs-order, to lose files of."""
    yield standin
    await standin.reset()


def drawn(chance: random.Random, product: str) -> dict[str, bytes]:
    """Return files of a product: empty, small, and larger than a part."""
    sizes = [0, 1, *(chance.randrange(200_000) for _ in range(8)), 5 * MIB + chance.randrange(MIB)]
    return {
        f"{product}-{number:02d}.bin": noise(size, f"{product}-{number}")
        for number, size in enumerate(sizes)
    }


def picked(chance: random.Random, names: list[str], most: int) -> list[str]:
    """Take some of the names away from those that are left, and return them."""
    chosen = chance.sample(names, chance.randint(0, most))
    names[:] = [name for name in names if name not in chosen]
    return chosen


def any_of(names: list[str]) -> str:
    """Return a regular expression of names; of no name, one that fits none."""
    return f"^({'|'.join(map(re.escape, names))})$" if names else "^$"


async def content_of(client: Client, answer: Mapping[str, Any], name: str) -> dict[str, bytes]:
    """Return what a client finds that has heard DONE, by path."""
    if name != "files":
        return READERS[f".{name}"](await client.fetch(answer["url"]))
    paths = await client.objects(answer["correlationId"])
    return {
        path: await client.fetch(answer["url"] + path) for path in paths if path != "manifest.json"
    }


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_manifest_and_archive_agree_to_the_byte(
    client: Client,
    make_product: Callable[..., str],
    lossy: StandIn,
    change: Setting,
    name: str,
    seed: int,
) -> None:
    """Some files are not restored, some are refused, some come with a wrong byte each time."""
    chance = random.Random(f"{seed} {name}")
    files: dict[str, bytes] = {}
    products: list[str] = []
    for product in ("one", "two"):
        ordered = drawn(chance, product)
        products.append(make_product(ordered))
        files |= {f"{products[-1]}_v1/{file}": content for file, content in ordered.items()}
    left = [path.rpartition("/")[2] for path in files]
    unrestored, refused = picked(chance, left, 3), picked(chance, left, 3)
    # A changed byte is seen in a file that has one.
    spoilt = picked(chance, [file for file in left if not file.endswith("-00.bin")], 3)
    lost = {*unrestored, *refused, *spoilt}
    status = chance.choice([403, 404, 422])
    await lossy.switch(unrestorable=any_of(unrestored), suborder_files=chance.choice([0, 5]))
    await lossy.misbehave(refuse=status, refuse_names=any_of(refused), spoilt_names=any_of(spoilt))
    await change(manifest=True, sha256=True)
    body = request_for(*products, delivery={"partial": True, "format": name})

    answer = await client.answer(body)

    told = f"unrestored {unrestored}, {status} for {refused}, spoilt {spoilt}: {answer}"
    assert answer["status"] == "DONE", told
    assert answer.get("missing", 0) == len(lost), told
    expected = {
        path: content for path, content in files.items() if path[path.rfind("/") + 1 :] not in lost
    }
    assert answer["files"] == len(expected)
    there = await content_of(client, answer, name)
    assert there == expected, told
    manifest = json.loads(await client.fetch(answer["manifestUrl"]))
    listed = {
        file["path"]: (file["size"], file["md5"], file["sha256"]) for file in manifest["files"]
    }
    assert listed == {
        path: (
            len(content),
            hashlib.md5(content).hexdigest(),
            hashlib.sha256(content).hexdigest(),
        )
        for path, content in expected.items()
    }
    missing = {file["path"]: file["cause"] for file in manifest.get("missing", [])}
    assert {path.rpartition("/")[2] for path in missing} == lost, told
    assert all(missing.values())


async def test_nothing_that_is_there_is_an_error(
    client: Client, make_product: Callable[..., str], lossy: StandIn
) -> None:
    await lossy.misbehave(refuse=404)
    product = make_product({"a.bin": b"a", "b.bin": b"b"})
    answer = await client.answer(request_for(product, delivery={"partial": True}))
    assert answer["status"] == "ERROR"
    assert "404" in answer["message"]
    assert await client.objects(answer["correlationId"]) == []


async def test_what_is_not_asked_for_in_part_is_all_or_nothing(
    client: Client, make_product: Callable[..., str], lossy: StandIn
) -> None:
    await lossy.misbehave(refuse=404, refuse_names="^b")
    product = make_product({"a.bin": b"a", "b.bin": b"b"})
    answer = await client.answer(request_for(product))
    assert answer["status"] == "ERROR"
    assert "b.bin" in answer["message"]
    assert await client.objects(answer["correlationId"]) == []
