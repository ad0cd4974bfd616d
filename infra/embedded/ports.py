"""TCP ports on this machine: free ones, and who holds a taken one."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from infra.embedded.errors import PortTakenError

LOOPBACK = "127.0.0.1"
# Below the range that the system hands to outgoing connections (32768 and up on Linux), so that a chosen
# port is not taken by a client between the choice and the listening; above the well-known services.
_CHOICE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class PortNeed:
    """A port that a part of the stack will listen on, and the setting that moves it."""

    part: str
    port: int
    setting: str
    host: str = LOOPBACK


def require_free(needs: Iterable[PortNeed]) -> None:
    """PortTakenError that names every taken port, its holder and the setting to change."""
    needs = list(needs)
    faults = []
    by_address: dict[tuple[str, int], PortNeed] = {}
    for need in needs:
        twin = by_address.setdefault((need.host, need.port), need)
        if twin is not need:
            faults.append(
                f"port {need.port} is given to both {twin.part} ({twin.setting}) and {need.part} ({need.setting})"
            )
        elif not is_free(need.port, need.host):
            faults.append(
                f"port {need.port} for {need.part} is taken by {holder(need.port)}: end it, or set {need.setting}"
            )
    if faults:
        raise PortTakenError("\n".join([*faults, "`touchstone up --free-ports` chooses free ones."]))


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True when a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection in TIME_WAIT does not count as a holder.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                return False
            raise
    return True


def free_port(host: str = LOOPBACK, *, avoid: frozenset[int] = frozenset()) -> int:
    """A port that nobody listens on, chosen at random; OSError when 200 tries find none."""
    choice = random.SystemRandom()
    for _ in range(200):
        port = choice.choice(_CHOICE)
        if port not in avoid and is_free(port, host):
            return port
    raise OSError(errno.EADDRINUSE, f"no free port found on {host} between {_CHOICE.start} and {_CHOICE.stop}")


def holder(port: int) -> str:
    """Who listens on the port, in words ("java, pid 4711"), as far as the system tells."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.laddr.port != port:
            continue
        if connection.pid is None:
            return "a process of another user"
        try:
            return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
        except psutil.Error:
            return f"pid {connection.pid}"
    return "another process"
