"""Which addresses may be called: none that leads back into this network, unless the receiver says ``local``. Pure.

Judged twice: `check_url` when the rules file is read, `check_answers` when a connection is made, on what the name
resolved to then. A name can point elsewhere a second after it was checked, so only the second check is a wall.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

HTTP_PORTS: Final = frozenset({443, 8443})
SMTP_PORTS: Final = frozenset({25, 465, 587, 2525})
FIRST_FREE_PORT: Final = 1024
"""Ports below are those of other services (SSH, SMTP, DNS, ...), which nobody's webhook listens on."""

_LOCAL: Final = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carrier NAT, and what overlay networks use
        "::1/128",
        "fc00::/7",
    )
)
"""What ``local`` allows beside public addresses. Link-local stays refused: that is where metadata live."""

_NEVER: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text)
    for text in (
        # Metadata of clouds that stand outside 169.254.0.0/16 and fe80::/10.
        "168.63.129.16/32",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "fd00:ec2::/32",
        "fd20:ce::/32",
        # IPv4 inside IPv6, by which a private address can look like a public one.
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        # Relays of 6to4, site-local, segment routing, documentation: not all Pythons say that these are not global.
        "192.88.99.0/24",
        "fec0::/10",
        "5f00::/16",
        "3fff::/20",
    )
)
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_LOCAL_SUFFIXES: Final = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "localdomain", "arpa")


class AddressRefusedError(ValueError):
    """An address that must not be called; says what to do about it, and never quotes the address's path."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address taken apart."""

    tls: bool
    host: str
    """A name, or an IP address without brackets."""
    port: int
    path: str
    """With the query."""


def check_url(url: str, local: bool) -> None:
    """Raise `AddressRefusedError` unless the address may be called, as far as it can be said without resolving."""
    parse_url(url, local)


def parse_url(url: str, local: bool) -> Target:
    """Take an address apart; raises as `check_url`."""
    if not url or any(not "!" <= character <= "~" or character == "\\" for character in url):
        raise AddressRefusedError("url: give an address in plain ASCII, names in punycode, without blanks")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefusedError("url: not an address; give https://host/path") from None
    if parts.scheme not in ("https", "http"):
        raise AddressRefusedError("url: give an https address")
    if parts.scheme == "http" and not local:
        raise AddressRefusedError("url: plain http is for receivers with `local: true`; give an https address")
    if "@" in parts.netloc:
        raise AddressRefusedError("url: no user or password in the address; use headers or bearer_token")
    if parts.fragment:
        raise AddressRefusedError("url: leave out what stands after #")
    host = parts.hostname or ""
    if parts.netloc.startswith("[") and not _is_v6(host):
        raise AddressRefusedError("url: what stands in brackets is no IPv6 address")
    check_host(host, local, "url")
    tls = parts.scheme == "https"
    at = port if port is not None else (443 if tls else 80)
    check_port(at, local, HTTP_PORTS, "url")
    return Target(tls, host.rstrip("."), at, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def check_host(host: str, local: bool, field: str = "host") -> None:
    """Raise `AddressRefusedError` for hosts that are refused whatever they resolve to."""
    literal = _literal(host)
    if literal is not None:
        check_answers([literal], local, field)
        return
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise AddressRefusedError(f"{field}: not a name of a host")
    labels = host.rstrip(".").lower().split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # inet_aton reads decimal, octal, hexadecimal and short forms; nobody writes them in good faith.
        raise AddressRefusedError(f"{field}: write an IPv4 address as four decimal numbers, or use a name")
    if not local and (len(labels) == 1 or labels[-1] in _LOCAL_SUFFIXES):
        raise AddressRefusedError(f"{field}: a name of this network; set `local: true` if that is meant")


def check_port(port: int, local: bool, known: frozenset[int], field: str = "port") -> None:
    """Raise `AddressRefusedError` for ports of other services."""
    if not 1 <= port <= 65_535 or (not local and port not in known and port < FIRST_FREE_PORT):
        names = ", ".join(map(str, sorted(known)))
        raise AddressRefusedError(
            f"{field}: port {port} is not for calls; use {names} or one from {FIRST_FREE_PORT} on"
        )


def check_answers(answers: Sequence[Address], local: bool, field: str = "url") -> None:
    """Raise `AddressRefusedError` if there is none, or if any one of the addresses must not be called."""
    if not answers:
        raise AddressRefusedError(f"{field}: the name has no address")
    for address in answers:
        if not allowed(address, local):
            raise AddressRefusedError(
                f"{field}: leads to {address}, which is not a public address"
                + ("" if local else "; set `local: true` if a receiver on this network is meant")
            )


def allowed(address: Address, local: bool) -> bool:
    """Whether this very address may be called."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    if any(address in network for network in _NEVER if network.version == address.version):
        return local and address == IPv6Address("::1")
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    if any(address in network for network in _LOCAL if network.version == address.version):
        return local
    return address.is_global and not address.is_reserved


def _is_v6(host: str) -> bool:
    return isinstance(_literal(host), IPv6Address)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
