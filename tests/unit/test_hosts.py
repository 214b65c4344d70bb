"""Where tenants may deliver to."""

from __future__ import annotations

import pytest

from app.network.hosts import AllowedHosts
from app.settings.texts import host

DEFAULT = AllowedHosts.of(["*"], own="http://localhost:9000")

SPECIAL = [
    "169.254.169.254",
    "169.254.1.1",
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "100.100.100.200",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "64:ff9b:1::1",  # of a translator's own: what it stands for is known there alone
    "64:ff9b:1:7f00:0:100::",
    "fec0::1",
    "feff::1",
]


@pytest.mark.parametrize("address", SPECIAL)
def test_an_address_of_loopback_link_local_or_metadata_is_refused(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    assert DEFAULT.flaw_of(f"http://{literal}:9001")
    assert DEFAULT.flaw_of_address("https://s3.example.org:443", address)


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.1", "172.16.0.9", "fd12::1", "8.8.8.8"])
def test_a_private_address_is_allowed(address: str) -> None:
    assert DEFAULT.flaw_of_address("https://s3.example.org:443", address) is None


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "s3.localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "metadata.google.internal",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
    ],
)
def test_a_name_of_such_an_address_is_refused(name: str) -> None:
    flaw = DEFAULT.flaw_of(f"http://{name}:9001")
    assert flaw is not None
    assert name.lower().rstrip(".") in flaw


@pytest.mark.parametrize(
    "name",
    ["2130706433", "0x7f000001", "0x7f.1", "1.0x7f", "127.1", "a_b", "localhost.", "fe80::1%e"],
)
def test_a_number_in_the_place_of_a_name_is_no_host(name: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        host(name)


def test_the_deployments_own_server_is_always_allowed() -> None:
    assert DEFAULT.flaw_of("http://localhost:9000") is None
    assert DEFAULT.flaw_of_address("http://localhost:9000", "127.0.0.1") is None
    assert DEFAULT.flaw_of("http://localhost:9001")
    strict = AllowedHosts.of(["s3.example.org"], own="https://minio")
    assert strict.flaw_of("https://minio:443") is None


def test_a_network_allows_what_names_lead_to() -> None:
    hosts = AllowedHosts.of(["10.0.0.0/8", "::1"])
    assert hosts.flaw_of("http://minio:9000") is None
    assert hosts.flaw_of_address("http://minio:9000", "10.9.9.9") is None
    assert hosts.flaw_of_address("http://minio:9000", "::ffff:10.9.9.9") is None
    assert hosts.flaw_of_address("http://minio:9000", "::1") is None
    assert hosts.flaw_of_address("http://minio:9000", "11.0.0.1")
    assert hosts.flaw_of("http://11.0.0.1:9000")


def test_a_network_of_the_list_allows_what_a_translator_stands_for() -> None:
    hosts = AllowedHosts.of(["64:ff9b:1:a::/96"])
    assert hosts.flaw_of_address("http://minio:9000", "64:ff9b:1:a::a00:1") is None
    assert hosts.flaw_of_address("http://minio:9000", "64:ff9b:1:b::a00:1")


def test_a_pattern_allows_names_but_not_that_they_lead_to_loopback() -> None:
    hosts = AllowedHosts.of(["*.Example.org"])
    assert hosts.flaw_of("https://s3.example.ORG:443") is None
    assert hosts.flaw_of_address("https://s3.example.org:443", "203.0.113.9") is None
    assert hosts.flaw_of_address("https://s3.example.org:443", "127.0.0.1")
    assert hosts.flaw_of("https://example.org.evil.net:443")


def test_a_name_of_the_list_may_lead_anywhere() -> None:
    hosts = AllowedHosts.of(["gateway", "localhost"])
    assert hosts.flaw_of("http://localhost:1") is None
    assert hosts.flaw_of_address("http://gateway:1", "169.254.1.1") is None
    assert hosts.flaw_of("http://other:1")


@pytest.mark.parametrize(
    ("address", "is_told"),
    [
        ("192.0.43.8", True),
        ("2001:500:88:200::8", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("fd12::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("fec0::1", False),
        ("nonsense", False),
    ],
)
def test_how_a_connection_fails_is_told_of_public_addresses_alone(
    address: str, is_told: bool
) -> None:
    assert DEFAULT.tells_of("https://hooks.example.org/", address) is is_told


def test_how_a_connection_fails_is_told_where_the_list_names_its_host_or_its_network() -> None:
    hosts = AllowedHosts.of(["hooks.example.org", "*.lan", "10.1.0.0/16"])
    assert hosts.tells_of("https://hooks.example.org/", "10.0.0.1")
    assert hosts.tells_of("https://a.lan/", "10.1.0.1")
    assert not hosts.tells_of("https://a.lan/", "10.0.0.1")


@pytest.mark.parametrize(
    "entry", ["http://s3", "s3:9000", "10.0.0.0/40", "a b", "a_b", "10.0.0.1/8"]
)
def test_a_text_that_is_no_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host name") as raised:
        AllowedHosts.of([entry])
    assert entry in str(raised.value)
