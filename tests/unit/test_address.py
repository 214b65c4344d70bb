"""Where requests come from: what a client says of itself is not believed."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from web.guard.address import address_of, caller_of


@pytest.mark.parametrize(
    ("heard", "proxies", "address"),
    [
        ([], 0, "192.0.2.1"),
        ([], 2, "192.0.2.1"),
        (["10.0.0.1"], 0, "192.0.2.1"),
        (["10.0.0.1"], 1, "10.0.0.1"),
        (["10.0.0.1, 10.0.0.2"], 1, "10.0.0.2"),
        (["10.0.0.1, 10.0.0.2"], 2, "10.0.0.1"),
        (["10.0.0.1", "10.0.0.2"], 2, "10.0.0.1"),
        (["10.0.0.1"], 2, "192.0.2.1"),  # it passed one of them only
        (["10.0.0.1:4711"], 1, "10.0.0.1"),
        (["[2001:db8::1]:4711"], 1, "2001:db8::1"),
        (["::ffff:10.0.0.1"], 1, "10.0.0.1"),
        (["unknown"], 1, "192.0.2.1"),
        ([""], 1, "192.0.2.1"),
    ],
)
def test_the_address_is_what_the_sites_own_proxies_heard(
    heard: list[str], proxies: int, address: str
) -> None:
    headers = CIMultiDict([("X-Forwarded-For", line) for line in heard])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="192.0.2.1")
    assert address_of(request, proxies=proxies) == address


def test_the_addresses_of_one_host_are_one_caller() -> None:
    assert caller_of("2001:db8::1") == caller_of("2001:db8::ffff:2")
    assert caller_of("2001:db8::1") != caller_of("2001:db8:0:1::1")
    assert caller_of("192.0.2.1") != caller_of("192.0.2.2")
    assert caller_of("") == ""
