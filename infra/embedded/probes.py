"""Questions to a part of the stack: is it there? Each answers within its timeout and never raises for an absence."""

from __future__ import annotations

import http.client
import socket

PROBE_TIMEOUT_S = 2.0


def http_ok(host: str, port: int, path: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """True when GET answers 200."""
    return http_get(host, port, path, timeout_s=timeout_s)[0] == http.client.OK


def http_get(host: str, port: int, path: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[int, str]:
    """Status and body of a GET; (0, the reason) when nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()


def listens(host: str, port: int, *, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """True when a connection is accepted."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
