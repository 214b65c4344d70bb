"""The pages of the real provider, as a browser without scripts goes through them."""

from __future__ import annotations

import re
from html import unescape

import aiohttp
from yarl import URL

_FIELD = re.compile(r"<input[^>]*>")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_MAX_STEPS = 20


async def signed_in(address: URL, home: str, user: str) -> str:
    """Sign a user in, allow all that is asked for, and return where the user is sent back to."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        answer = await session.get(address, allow_redirects=False)
        for _ in range(_MAX_STEPS):
            if answer.status in (302, 303):
                there = answer.url.join(URL(answer.headers["Location"], encoded=True))
                if str(there).startswith(home):
                    return str(there)
                answer = await session.get(there, allow_redirects=False)
                continue
            page = await answer.text()
            assert answer.status == 200, page
            form = re.search(r'<form[^>]*action="([^"]+)"', page)
            assert form is not None, page
            listed = [dict(_ATTRIBUTE.findall(field)) for field in _FIELD.findall(page)]
            fields = {field["name"]: unescape(field.get("value", "")) for field in listed}
            fields |= {name: user for name in ("login", "password") if name in fields}
            there = answer.url.join(URL(unescape(form[1]), encoded=True))
            answer = await session.post(there, data=fields, allow_redirects=False)
        raise AssertionError(f"the provider sends {user} around")
