"""What the description promises holds, whatever is sent (schemathesis)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.web.conftest import Api, token

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "20")  # of each operation
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")

# Streams don't end (test_events.py reads them); and in maintenance, all others answer 503.
EXCLUDED = "/events$|/enable$"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)


@pytest.mark.timeout(900)
async def test_no_request_gets_an_answer_that_is_not_described(api: Api, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            str(api.client.make_url("/openapi.json")),
        ),
        *("--header", f"Authorization: Bearer {token()}"),
        *("--checks", CHECKS),
        *("--exclude-path-regex", EXCLUDED),
        *("--max-examples", EXAMPLES, "--seed", SEED, "--workers", "1", "--no-color"),
        # A change of settings tries a target, which may take seconds and more beside a busy core.
        *("--request-timeout", "60"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    told = output.decode()
    assert process.returncode == 0, told
    tested = re.search(r"Tested: +(\d+)", told)
    assert tested is not None, told
    described = (await (await api.client.get("/openapi.json")).json())["paths"]
    wanted = [path for path in described if not re.search(EXCLUDED, path)]
    assert int(tested[1]) == sum(len(described[path]) for path in wanted)


async def test_each_schema_has_a_name_of_its_own_and_is_where_it_is_referred_to(api: Api) -> None:
    text = await (await api.client.get("/openapi.json")).text()
    schemas = json.loads(text)["components"]["schemas"]
    assert [name for name in schemas if not re.fullmatch("[A-Z][A-Za-z0-9]+", name)] == []
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)
