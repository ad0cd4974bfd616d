"""Connections to addresses that were checked, and to no other.

The name is resolved once; if any answer is refused, nothing is connected; else a connection goes to one of the checked
addresses by its number, so that no second look-up can point elsewhere, while TLS still verifies the name. HTTP goes
through httpcore, whose `AsyncNetworkBackend` is made for this: it sees each connection before it exists, and httpcore
itself follows no redirect, reads no proxy variable, keeps no cookie and unpacks no body.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any, Final

import certifi
import httpcore

from services.alerting.delivery.addresses import Address, check_answers

MOST_READ_BYTES: Final = 65_536
"""Of one answer, headers included: no receiver decides how much we keep."""
MOST_ADDRESSES_TRIED: Final = 3

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Host and port to addresses; raises OSError where there is none."""


class TooMuchError(httpcore.ReadError):
    """The answer is longer than we read."""


class Resolver:
    """The machine's resolver in two threads of its own: names that hang keep no other receiver waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="alert-names")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


async def checked_addresses(host: str, port: int, local: bool, resolve: Resolve) -> Sequence[Address]:
    """What the name resolves to, if all of it may be called; raises `AddressRefusedError` or OSError."""
    try:
        answers: Sequence[Address] = [ip_address(host)]
    except ValueError:
        answers = await resolve(host, port)
    check_answers(answers, local)
    return answers[:MOST_ADDRESSES_TRIED]


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trust the machine's authorities and certifi's; with ``ca_file`` only those in it."""
    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


_read_bytes: ContextVar[list[int] | None] = ContextVar("read_bytes", default=None)


def meter_reads() -> None:
    """Count what this task reads from now on; beyond `MOST_READ_BYTES` reading raises `TooMuchError`."""
    _read_bytes.set([0])


class _MeteredStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        counter = _read_bytes.get()
        if counter is None:
            return await self._stream.read(max_bytes, timeout)
        left = MOST_READ_BYTES - counter[0]
        if left <= 0:
            raise TooMuchError(f"more than {MOST_READ_BYTES} bytes")
        data = await self._stream.read(min(max_bytes, left), timeout)
        counter[0] += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _MeteredStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, local: bool, resolve: Resolve) -> None:
        self._local = local
        self._resolve = resolve
        self._inner: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await checked_addresses(host, port, self._local, self._resolve)
        *others, last = addresses
        for address in others:
            try:
                return await self._connect(address, port, timeout and timeout / 3, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._connect(last, port, timeout, local_address, socket_options)

    async def _connect(
        self,
        address: Address,
        port: int,
        seconds: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(
            str(address), port, timeout=seconds, local_address=local_address, socket_options=socket_options
        )
        return _MeteredStream(stream)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no unix sockets")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def connected_socket(host: str, port: int, local: bool, resolve: Resolve) -> socket.socket:
    """A connected socket to a checked address, for clients that take one; raises `AddressRefusedError` or OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for address in await checked_addresses(host, port, local, resolve):
        connection = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, (str(address), port))
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError("no address")
