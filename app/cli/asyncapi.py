"""`delivery asyncapi`: the document of all channels."""

from __future__ import annotations

import json
from pathlib import Path

import click

from streams.operators.asyncapi import document, schemas


@click.command()
@click.option(
    "--schemas",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the JSON Schemas into this folder, too.",
)
def asyncapi(folder: Path | None) -> None:
    """Print the AsyncAPI document of the AMQP and Kafka channels."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, schema in schemas().items():
            (folder / f"{name}.json").write_text(written(schema), encoding="utf-8")
    click.echo(written(document()), nl=False)


def written(document: object) -> str:
    """Return the text of a document, as it is kept in docs/."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
