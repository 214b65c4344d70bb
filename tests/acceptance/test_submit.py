"""`delivery submit`, as a user at a shell."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.embedded.stack import ROOT, Stack
from tests.client import request_for
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]


async def submit(stack: Stack, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    return await command(stack, "submit", *arguments, stdin=stdin)


async def command(stack: Stack, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    process = await begun(stack, *arguments)
    out, error = await process.communicate(stdin)
    return process.returncode or 0, out.decode(), error.decode()


async def begun(stack: Stack, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        *arguments,
        cwd=ROOT,
        env={**os.environ, **stack.environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_waiting_shows_the_way_and_prints_the_answer(
    stack: Stack, standin: StandIn, make_product: Callable[..., str], tmp_path: Path
) -> None:
    await standin.misbehave(bytes_per_second=100)  # until something is told of it
    body = request_for(make_product({"a.bin": b"a" * 5000}))
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body))
    process = await begun(stack, "submit", str(file), "--wait")
    assert process.stderr is not None
    shown = b""
    while b"0/1 files" not in shown:
        line = await process.stderr.readline()
        assert line, shown
        shown += line
    await standin.behave()
    out, rest = await process.communicate()
    error = (shown + rest).decode()
    assert process.returncode == 0, error
    answer = json.loads(out)
    assert (answer["correlationId"], answer["status"]) == (body["correlationId"], "DONE")
    assert f"GRANTED {body['correlationId']}" in error
    assert "1/1 files" in error


async def test_an_option_chooses_the_format(stack: Stack, make_product: Callable[..., str]) -> None:
    body = request_for(make_product({"a": b"a"}), delivery={"format": "zip"})
    arguments = ("-", "--wait", "--format", "tar.zst")
    code, out, error = await submit(stack, *arguments, stdin=json.dumps(body).encode())
    assert code == 0, error
    assert json.loads(out)["url"].endswith("_v1.tar.zst")


async def test_a_dry_run_tells_where_an_archive_goes_and_then_it_goes_there(
    stack: Stack, make_product: Callable[..., str]
) -> None:
    product = make_product({"a": b"a"})
    body = request_for(product)
    name = ("--archive-name", "A-{productId}", "--prefix", "campaign/{version}")
    asked = json.dumps(body).encode()
    code, out, error = await submit(stack, "-", "--dry-run", *name, stdin=asked)
    assert code == 0, error
    told = json.loads(out)
    assert (told["granted"], told["target"]["ok"]) == (True, True)
    pattern = f"campaign/{{version}}/{body['correlationId']}/A-{{productId}}.zip"
    assert told["place"]["key"].endswith(pattern)
    code, out, error = await submit(stack, "-", "--wait", *name, stdin=asked)
    assert code == 0, error  # nothing of the dry run has the id
    where = pattern.replace("{version}", "1").replace("{productId}", product)
    assert json.loads(out)["url"].endswith(where)


async def test_a_dry_run_that_would_be_denied_is_an_exit_code(stack: Stack) -> None:
    body = b'{"order": {"user": "", "queries": []}, "delivery": {"prefix": "/"}}'
    code, out, error = await submit(stack, "-", "--dry-run", stdin=body)
    assert code == 1
    assert len(json.loads(out)["broken"]) == 3
    assert "delivery.prefix must have no / at its ends" in error
    code, _, error = await submit(stack, "-", "--dry-run", "--wait", stdin=body)
    assert code == 2
    assert "--dry-run sends nothing" in error


async def test_labels_and_a_deadline_are_chosen_by_options(
    stack: Stack, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}))
    arguments = ("-", "--wait", "--label", "a label", "--label", "b", "--deadline", "2126-01-31")
    code, out, _ = await submit(stack, *arguments, stdin=json.dumps(body).encode())
    assert code == 1
    assert "delivery.deadline must be a time with its zone" in json.loads(out)["message"]
    arguments = (*arguments[:-1], "2126-01-31T12:00:00Z")
    code, out, error = await submit(stack, *arguments, stdin=json.dumps(body).encode())
    assert code == 0, error
    _, listed, _ = await command(stack, "list", "--label", "b", "--label", "a label", "--json")
    assert json.loads(listed)["labels"] == ["a label", "b"]


async def test_a_denial_is_an_exit_code(stack: Stack) -> None:
    code, out, error = await submit(stack, "-", "--wait", stdin=b'{"order": {}}')
    assert code == 1
    assert json.loads(out)["status"] == "DENIED"
    assert "delivery: INVALID_CONTENT: order.user is missing" in error


async def test_without_waiting_the_correlation_id_is_printed(
    stack: Stack, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}))
    code, out, _ = await submit(stack, "-", stdin=json.dumps(body).encode())
    assert (code, out.strip()) == (0, body["correlationId"])


async def test_no_answer_in_time_is_told(stack: Stack) -> None:
    body = request_for("P")
    code, _, error = await submit(
        stack, "-", "--wait", "--timeout", "0.01", stdin=json.dumps(body).encode()
    )
    assert code == 1
    assert "no final answer" in error
    assert "Traceback" not in error
