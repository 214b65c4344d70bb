"""Options that several commands have."""

from __future__ import annotations

import click

json_flag = click.option(
    "--json", "as_json", is_flag=True, help="For scripts: a JSON object a line."
)
