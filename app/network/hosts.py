"""Which hosts tenants may have their archives put on.

A tenant's settings make this service connect, from inside the operator's network, to where they
say. A name is judged when it is set, and the address that it leads to whenever a connection is
opened: what a name leads to changes.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PATTERN = re.compile(r"[A-Za-z0-9.*-]{1,253}")
PORTS = {"http": 80, "https": 443}  # of URLs that name none

# Refused, unless a network of the list holds them. An address is of the first kind that has it.
_KINDS = {
    "a metadata address of a cloud": (
        "169.254.169.254/32",
        "169.254.170.2/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
    ),
    "a loopback address": ("127.0.0.0/8", "::1/128"),
    "a link-local address": ("169.254.0.0/16", "fe80::/10"),
    "an address that a NAT64 of its own network translates": ("64:ff9b:1::/48",),  # RFC 8215
    "a site-local address": ("fec0::/10",),  # RFC 3879: of no network any more
    "no address of a single host": (
        "0.0.0.0/8",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "ff00::/8",
    ),
}
_SPECIAL: tuple[tuple[str, _Network], ...] = tuple(
    (kind, ipaddress.ip_network(network))
    for kind, networks in _KINDS.items()
    for network in networks
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")

# Names that lead to such an address wherever they are looked up.
_KNOWN = {
    "localhost": "127.0.0.1",
    "*.localhost": "127.0.0.1",
    "localhost.localdomain": "127.0.0.1",
    "localhost4": "127.0.0.1",
    "localhost6": "::1",
    "ip6-localhost": "::1",
    "ip6-loopback": "::1",
    "metadata": "169.254.169.254",
    "metadata.goog": "169.254.169.254",
    "metadata.google.internal": "169.254.169.254",
    "instance-data": "169.254.169.254",
    "instance-data.ec2.internal": "169.254.169.254",
}


def _inner(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address stands for, where it stands for one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _kind(address: _Address) -> str | None:
    """Return what is special about an address; None when nothing is."""
    return next((kind for kind, network in _SPECIAL if address in network), None)


def _literal(host: str) -> _Address | None:
    """Return the address that a host is, also in the forms that old C libraries know."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 2130706433, 0x7f.1, 0177.0.0.1
    except OSError:
        return None


def port_of(address: SplitResult) -> int:
    """Return the port of a URL; where it names none, its scheme's."""
    return address.port or PORTS.get(address.scheme, PORTS["https"])


def endpoint_of(server: Mapping[str, Any]) -> str:
    """Return `scheme`, `host` and `port` of a server as a URL."""
    name = server["host"]
    try:
        literal = f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        literal = name
    return f"{server['scheme']}://{literal}:{server['port']}"


def canonical(endpoint: str) -> str:
    """Return an endpoint as all who mean it write it: case counts in its path alone."""
    address = urlsplit(endpoint)
    return urlunsplit(address._replace(netloc=address.netloc.lower()))


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Return host and port of an endpoint."""
    address = urlsplit(endpoint)
    return (address.hostname or "").rstrip("."), port_of(address)


def server_of(endpoint: str) -> str:
    """Return which server an endpoint is, as `host:port`: that of a completion, among others."""
    return ":".join(map(str, host_and_port(endpoint)))


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowedHosts:
    """The operator's list, and the deployment's own server, which is always allowed.

    A name of the list may lead anywhere. An address in a network of the list is allowed, whatever
    name leads there. What matches a pattern (`*` is any host) must not lead to an address of
    loopback, link-local or metadata services, unless a network of the list holds it.
    """

    names: frozenset[str]
    patterns: tuple[str, ...]
    networks: tuple[_Network, ...]
    own: tuple[str, int] | None = None  # host and port of the deployment's own server
    may: str = "deliver to"  # what it says that tenants may, or may not

    @classmethod
    def of(
        cls, entries: Iterable[str], *, own: str | None = None, may: str = "deliver to"
    ) -> AllowedHosts:
        """Read a list; `own` is an endpoint. Raises ValueError naming what is no entry."""
        names, patterns, networks = set(), [], []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]")))
                continue
            except ValueError:
                if "/" in entry or not _PATTERN.fullmatch(entry):
                    raise ValueError(
                        f"{entry[:100]!r} is neither a host name, nor a pattern with *, nor a "
                        "network such as 10.0.0.0/8"
                    ) from None
            if "*" in entry:
                patterns.append(entry.lower())
            else:
                names.add(entry.lower())
        return cls(
            names=frozenset(names),
            patterns=tuple(patterns),
            networks=tuple(networks),
            own=host_and_port(own) if own else None,
            may=may,
        )

    def is_own(self, endpoint: str) -> bool:
        """Whether this is the deployment's own server."""
        return self.own is not None and host_and_port(endpoint) == self.own

    def flaw_of(self, endpoint: str) -> str | None:
        """Return why a tenant may not deliver there, as far as its host tells; None if it may.

        What a name leads to is not looked at here.
        """
        host = host_and_port(endpoint)[0]
        if self.is_own(endpoint) or host in self.names:
            return None
        address = _literal(host)
        if address is not None:
            return self._flaw(host, address)
        known = next((a for name, a in _KNOWN.items() if fnmatchcase(host, name)), None)
        if known is not None:
            return self._flaw(host, ipaddress.ip_address(known))
        if self._matched(host) or self.networks:  # judged by its address when it is known
            return None
        return self._not_listed(host)

    def flaw_of_address(self, endpoint: str, address: str) -> str | None:
        """Return why no connection may be opened to an address that the endpoint leads to."""
        host = host_and_port(endpoint)[0]
        found = _literal(address)
        if found is None:
            return f"{host} leads to no IP address"
        if self.is_own(endpoint) or host in self.names:
            return None
        return self._flaw(host, found)

    def _flaw(self, host: str, address: _Address) -> str | None:
        if self._in_network(address):
            return None
        kind = _kind(address) or _kind(_inner(address))
        if kind is not None:
            verb = "is" if _literal(host) is not None else "leads to"
            return f"{host} {verb} {kind}, where tenants may not {self.may}"
        if self._matched(host):
            return None
        return self._not_listed(host)

    def _not_listed(self, host: str) -> str:
        return f"{host} is not among the hosts that tenants may {self.may}"

    def names_host(self, endpoint: str) -> bool:
        """Whether the list has this very host: by its name, or its address by a network."""
        host = host_and_port(endpoint)[0]
        address = _literal(host)
        if address is not None:
            return self._in_network(address)
        return host in self.names

    def tells_of(self, endpoint: str, address: str) -> bool:
        """Whether a tenant may be told how a connection to an address fails.

        Not of one inside the operator's network, unless the list has it: refused, silent and no TLS
        would tell which ports are open there.
        """
        found = _literal(address)
        return found is not None and (
            (_inner(found).is_global and _kind(found) is None)
            or self.is_own(endpoint)
            or self.names_host(endpoint)
            or self._in_network(found)
        )

    def _in_network(self, address: _Address) -> bool:
        """Whether a network of the list holds an address."""
        return any(
            candidate in network
            for network in self.networks
            for candidate in (address, _inner(address))
        )

    def _matched(self, host: str) -> bool:
        return any(fnmatchcase(host, pattern) for pattern in self.patterns)
