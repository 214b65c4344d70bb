"""A dead letter's body as the client shows it, and as it is mended: nothing written is lost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.client_library.fake import TOKEN
from tests.client_library.program import called

BODY = '{"a": 1}'
DIFF = ["--- amqp:1 (now)", "+++ amqp:1 (then)", "@@ -1 +1 @@", '-{"a": 1}', '+{"a": 2}']


class Service:
    """One letter, and what was asked for it."""

    def __init__(self) -> None:
        self.letter: dict[str, Any] = {"id": "amqp:1", "bytes": len(BODY), "body": {"text": BODY}}
        self.mends: list[dict[str, Any]] = []
        self.refuses: str | None = None
        self.status = 422  # with which it does
        self.read = 0
        self.etag: str | None = None
        self.seen: list[str | None] = []  # If-Match of each mend
        self.meanwhile: dict[str, Any] = {}  # as another client has it, after the first look

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Give its address."""
        site = web.Application()
        site.router.add_get("/dead-letters/{id}", self._get)
        site.router.add_put("/dead-letters/{id}", self._put)
        async with TestServer(site) as server:
            yield str(server.make_url("")).rstrip("/")

    async def _get(self, _: web.Request) -> web.Response:
        self.read += 1
        said = self.letter | (self.meanwhile if self.read > 1 else {})
        return web.json_response(said, headers={} if self.etag is None else {"ETag": self.etag})

    async def _put(self, request: web.Request) -> web.Response:
        self.mends.append(await request.json())
        self.seen.append(request.headers.get("If-Match"))
        if self.refuses is not None:
            return web.json_response({"message": self.refuses}, status=self.status)
        return web.json_response(self.letter)


@pytest.fixture
def service() -> Service:
    """The service."""
    return Service()


@pytest.fixture
def drafts(tmp_path: Path) -> Path:
    """Where what is written is kept."""
    made = tmp_path / "drafts"
    made.mkdir()
    return made


async def mend(
    service: Service,
    drafts: Path,
    *arguments: str,
    edit: str = "s/1/2/",
    text: str | None = None,
    typed: str | None = None,
) -> tuple[int, str, str]:
    """Call the command; its editor edits by itself, and ends the last line as editors do."""
    editor = drafts.parent / "editor"
    editor.write_text(f'#!/bin/sh\n/bin/sed -i "{edit}" "$1" && echo >> "$1"\n')
    editor.chmod(0o700)
    async with service.running() as url:
        environment = {
            "DELIVERY_URL": url,
            "DELIVERY_TOKEN": TOKEN,
            "TMPDIR": drafts,
            "EDITOR": editor,
        }
        return await called(
            "rs-delivery",
            *("letter", "mend", "amqp:1", *arguments),
            text=text,
            typed=typed,
            environment=environment,
        )


async def test_what_is_edited_is_shown_asked_for_and_sent(service: Service, drafts: Path) -> None:
    code, out, err = await mend(service, drafts, typed="y\n")
    assert (code, out.splitlines()[:5]) == (0, DIFF)
    assert "mend amqp:1 so? [y/N]:" in err
    assert err.endswith("amqp:1 is mended\n")
    assert service.mends == [{"text": '{"a": 2}'}]
    assert not list(drafts.iterdir())


async def test_what_is_refused_is_told_and_what_was_written_is_kept(
    service: Service, drafts: Path
) -> None:
    service.refuses = "it would be refused again: a"
    code, _, err = await mend(service, drafts, "--yes")
    (kept,) = drafts.iterdir()
    assert code == 1
    assert err == (
        f"rs-delivery: it would be refused again: a; what you wrote is in {kept}: "
        f"`rs-delivery letter mend amqp:1 --file {kept}` takes it\n"
    )
    assert kept.read_text() == '{"a": 2}\n'
    assert kept.stat().st_mode & 0o777 == 0o600
    service.refuses = None
    assert (await mend(service, drafts, "--file", str(kept), "--force", "--yes"))[0] == 0
    assert service.mends[-1]["force"] is True


async def test_what_is_not_wanted_after_all_is_kept_and_not_sent(
    service: Service, drafts: Path
) -> None:
    code, _, err = await mend(service, drafts, typed="n\n")
    (kept,) = drafts.iterdir()
    assert code == 130
    assert f"what you wrote is in {kept}" in err
    assert not service.mends


async def test_what_another_client_has_mended_meanwhile_is_left(
    service: Service, drafts: Path
) -> None:
    service.meanwhile = {"mendedBody": {"text": "x"}, "mendedBy": "other@x.org"}
    code, _, err = await mend(service, drafts, "--file", "-", "--yes", text="mine")
    (kept,) = drafts.iterdir()
    assert (code, kept.read_text(), service.mends) == (5, "mine", [])
    assert "amqp:1 was mended meanwhile, by other@x.org; what you wrote is in" in err


async def test_what_was_seen_is_sent_along_and_what_is_another_by_now_is_left(
    service: Service, drafts: Path
) -> None:
    """The service compares, so that nothing is between the look and the mend."""
    service.etag = '"7"'
    assert (await mend(service, drafts, "--file", "-", "--yes", text="mine"))[0] == 0
    assert (service.seen, service.read) == (['"7"'], 1)
    service.refuses, service.status = "amqp:1 was mended by other@x.org meanwhile", 412
    code, _, err = await mend(service, drafts, "--file", "-", "--yes", text="mine")
    (kept,) = drafts.iterdir()
    assert (code, kept.read_text(), service.seen) == (5, "mine", ['"7"', '"7"'])
    assert "was mended by other@x.org meanwhile; what you wrote is in" in err


async def test_what_changes_nothing_is_not_sent(service: Service, drafts: Path) -> None:
    said = (0, "", "amqp:1 has this body already\n")
    assert await mend(service, drafts, "--yes", edit="s/x/y/") == said
    assert not list(drafts.iterdir())
    assert not service.mends


async def test_a_dry_run_keeps_what_was_written(service: Service, drafts: Path) -> None:
    code, out, err = await mend(service, drafts, "--dry-run")
    (kept,) = drafts.iterdir()
    assert (code, out.splitlines(), service.mends) == (0, DIFF, [])
    assert err.startswith(f"nothing was changed\nwhat you wrote is in {kept}: ")


async def test_a_tenant_alone_is_mended_without_an_editor(service: Service, drafts: Path) -> None:
    assert (await mend(service, drafts, "--tenant", "other", "--yes", edit="fails"))[0] == 0
    assert service.mends == [{"tenant": "other"}]
    assert (await mend(service, drafts, "--tenant", "", "--yes"))[0] == 2


async def test_an_earlier_mend_of_what_this_one_leaves_goes_along(
    service: Service, drafts: Path
) -> None:
    """The service has the whole mend in the place of the one before."""
    service.letter |= {"mendedBody": {"text": '{"a": 1}'}, "mendedTenant": "first"}
    code, _, err = await mend(service, drafts, "--tenant", "other", typed="y\n")
    assert (code, service.mends) == (0, [{"text": BODY, "tenant": "other"}])
    assert "mend amqp:1 so, for the tenant other? [y/N]:" in err
    code, _, err = await mend(service, drafts, typed="y\n")
    assert (code, service.mends[1:]) == (0, [{"text": '{"a": 2}', "tenant": "first"}])
    assert "mend amqp:1 so, for the tenant first? [y/N]:" in err


@pytest.mark.parametrize(
    ("before", "after", "sizes"),
    [
        (b"a\r\nb", b"a\nb", "4 bytes now, 3 then"),
        (b"a", b"a\n", "1 byte now, 2 then"),
        (b"\\xff", b"\xff", "4 bytes now, 1 then"),
    ],
)
async def test_what_differs_in_no_line_is_told_by_its_size(
    service: Service, drafts: Path, before: bytes, after: bytes, sizes: str
) -> None:
    service.letter |= {"bytes": len(before), "body": {"text": before.decode()}}
    file = drafts.parent / "body"
    file.write_bytes(after)
    code, out, _ = await mend(service, drafts, "--file", str(file), "--dry-run")
    said = f"no line differs, but line ends, or bytes that are no UTF-8: {sizes}\n"
    assert (code, out) == (0, said)


async def test_a_body_that_is_no_text_is_sent_as_bytes(service: Service, drafts: Path) -> None:
    file = drafts.parent / "body"
    file.write_bytes(b"\xff")
    assert (await mend(service, drafts, "--file", str(file), "--yes"))[0] == 0
    assert service.mends == [{"base64": base64.b64encode(b"\xff").decode()}]
    assert file.exists()


async def test_a_body_of_which_the_beginning_alone_is_shown_is_not_edited(
    service: Service, drafts: Path
) -> None:
    service.letter["bytes"] = 10_000_000
    code, _, err = await mend(service, drafts, "--yes")
    assert (code, service.mends) == (1, [])
    assert err == ("rs-delivery: the service shows its beginning alone: give all of it by --file\n")


async def test_an_editor_that_fails_sends_nothing(service: Service, drafts: Path) -> None:
    code, _, err = await mend(service, drafts, "--yes", edit="no command of sed")
    assert (code, service.mends) == (1, [])
    assert re.search(r"Editing failed; what you wrote is in \S+: `", err)


async def test_where_it_can_not_be_asked_nothing_is_read(service: Service, drafts: Path) -> None:
    code, _, err = await mend(service, drafts)
    assert (code, service.read) == (2, 0)
    assert "there is no terminal to ask at: add --yes, or --dry-run" in err


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("--body", b"\\x1b]0;x\\x07 \xc3\xa9\r\n\tb\\xff\\r"),
        ("--raw", b"\x1b]0;x\x07 \xc3\xa9\r\n\tb\xff\r"),
    ],
)
async def test_a_body_does_not_drive_a_terminal_unless_it_is_asked_for(
    service: Service, option: str, shown: bytes
) -> None:
    body = b"\x1b]0;x\x07 \xc3\xa9\n\tb\xff\r"
    service.letter["body"] = {"base64": base64.b64encode(body).decode()}
    async with service.running() as url:
        ours, theirs = pty.openpty()
        environment = {"DELIVERY_URL": url, "DELIVERY_TOKEN": TOKEN}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from rs_delivery_client.cli import main; main()"),
            *("letter", "show", "amqp:1", option),
            stdout=theirs,
            env=environment,
        )
        assert await process.wait() == 0
        assert os.read(ours, 65536) == shown
        os.close(theirs)
        os.close(ours)
