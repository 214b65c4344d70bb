"""Server-sent events, as they come."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from rs_delivery_client.errors import ContentError

_MAX = 1024 * 1024  # bytes of an event


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """An event, or what a stream says of itself."""

    event: str = "message"
    data: str = ""
    id: str | None = None  # None: as before
    retry: int | None = None  # milliseconds to wait before coming again


async def frames(chunks: AsyncIterable[bytes]) -> AsyncIterator[Frame]:
    """Yield the events of a stream; what is cut off at its end is none."""
    held = b""
    fields: dict[str, list[str]] = {}
    async for chunk in chunks:
        held += chunk
        # A CR at the end may be half of a CRLF: it waits for what follows.
        ready, held = _lines(held)
        for line in ready:
            if not line:
                if fields:
                    yield _frame(fields)
                fields = {}
                continue
            name, _, value = line.partition(":")
            if name:
                fields.setdefault(name, []).append(value.removeprefix(" "))
        if len(held) > _MAX or sum(len(v) for values in fields.values() for v in values) > _MAX:
            raise ContentError("an event is too long: this is not this service")


def _lines(held: bytes) -> tuple[list[str], bytes]:
    keep = held.endswith(b"\r")
    text = (held[:-1] if keep else held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *ready, rest = text.split(b"\n")
    return [line.decode("utf-8", "replace") for line in ready], rest + b"\r" * keep


def _frame(fields: dict[str, list[str]]) -> Frame:
    retry = fields.get("retry", [""])[-1]
    return Frame(
        event=fields.get("event", ["message"])[-1],
        data="\n".join(fields.get("data", [])),
        id=fields["id"][-1] if "id" in fields else None,
        retry=int(retry[:9]) if retry.isascii() and retry.isdigit() else None,
    )
