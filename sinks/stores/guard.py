"""Answers of object stores are not read without end."""

from __future__ import annotations

import aiohttp


class EndlessAnswerError(aiohttp.ClientPayloadError):
    """An answer that is longer than any that was asked for."""
