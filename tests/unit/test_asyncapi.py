"""The published documents are those that the code makes, and hold together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.asyncapi import written
from streams.amqp import names
from streams.channels import ORDER_RESPONSES, REQUESTS
from streams.kafka.topics import Topics
from streams.operators.asyncapi import document, schemas

DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_is_current() -> None:
    assert (DOCS / "asyncapi.json").read_text() == written(document()), "run `make docs`"


def test_the_schemas_are_current() -> None:
    kept = {path.stem: path.read_text() for path in (DOCS / "schemas").iterdir()}
    del kept["manifest"], kept["report"]  # of files: other tests hold what is written to them
    assert kept == {name: written(schema) for name, schema in schemas().items()}, "run `make docs`"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("reference", sorted(set(references(document()))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    found: Any = document()
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    assert found


def test_every_exchange_and_topic_is_described() -> None:
    text = json.dumps(document())
    for name in (*names.EXCHANGES, REQUESTS.queue.name, ORDER_RESPONSES.queue.name):
        assert name in text
    for topic in Topics().all:
        assert topic in text
