"""The client's commands, as a user calls them: in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import sys
from collections.abc import Iterator, Mapping

PROGRAMS = {"delivery": "app.cli", "rs-delivery": "rs_delivery_client.cli"}


async def called(
    program: str,
    *arguments: object,
    text: str | None = None,
    typed: str | None = None,
    environment: Mapping[str, object] | None = None,
) -> tuple[int, str, str]:
    """Call one, with `text` on its standard input; return how it ended, and what it said.

    With `typed`, its input is a terminal that this was typed at. It has the environment that is
    given, and no profiles but those that are named there.
    """
    if typed is not None:
        with _keyboard(typed) as keyboard:
            return await _called(program, arguments, text, environment, keyboard)
    keyboard = asyncio.subprocess.PIPE if text is not None else asyncio.subprocess.DEVNULL
    return await _called(program, arguments, text, environment, keyboard)


@contextlib.contextmanager
def _keyboard(typed: str) -> Iterator[int]:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


async def _called(
    program: str,
    arguments: tuple[object, ...],
    text: str | None,
    environment: Mapping[str, object] | None,
    stdin: int,
) -> tuple[int, str, str]:
    code = f"import sys; sys.argv[0] = {program!r}; from {PROGRAMS[program]} import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *map(str, arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"DELIVERY_PROFILES": "/no/such/profiles.json"}
        | {name: str(value) for name, value in (environment or {}).items()},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(None if text is None else text.encode())
    return process.returncode or 0, out.decode(), err.decode()
