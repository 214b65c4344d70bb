"""Connections are opened only to addresses that are allowed.

A name may lead elsewhere than it did when it was set, so whatever address a connection is about to
be opened to is judged first.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import aiohttp

# Returns why no connection may be opened to an address; None if one may.
Judge = Callable[[str], str | None]


class ForbiddenAddressError(OSError):
    """A connection that is not opened; its text is the same for all addresses of a name."""


def judged(judge: Judge) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Return what makes sockets for a connector of aiohttp; raises ForbiddenAddressError."""

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        flaw = judge(str(address[0]))
        if flaw is not None:
            raise ForbiddenAddressError(flaw)
        return socket.socket(family, kind, protocol)

    return make
