"""One POST to a receiver, with everything that a receiver could do to us bounded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpcore

from services.alerting.delivery.addresses import AddressRefusedError, parse_url
from services.alerting.delivery.connect import (
    MOST_READ_BYTES,
    CheckedBackend,
    Resolve,
    Resolver,
    TooMuchError,
    meter_reads,
    tls_context,
)
from services.alerting.delivery.retry import Answer, Verdict, retry_after_s

MOST_S: Final = 15.0
"""From the look-up of the name to the last byte that is read. Standard Webhooks: 15 to 30 s."""
CONNECT_S: Final = 5.0
CONNECTIONS: Final = 8
IDLE_S: Final = 30.0
USER_AGENT: Final = "touchstone-cx"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered."""

    status: int
    retry_after_s: float | None
    body: bytes
    """Up to 64 KiB of it; not to be trusted, and not to be shown: it may quote what we sent."""


class HttpClient:
    """Posts to the receivers of one name; connections are kept for the next call."""

    def __init__(self, *, local: bool, ca_file: str = "", resolve: Resolve | None = None) -> None:
        self._local = local
        self._ca_file = ca_file
        self._resolver = None if resolve else Resolver()
        self._resolve: Resolve = resolve or self._resolver or Resolver()
        self._opening = asyncio.Lock()
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, now_us: int) -> Reply | Answer:
        """Post once, without following anything; an `Answer` where no status came back."""
        try:
            target = parse_url(url, self._local)
            pool = await self._connections()
        except AddressRefusedError as error:
            return Answer(Verdict.RETRY, detail=f"refused: {error}")
        except (OSError, ssl.SSLError) as error:
            return Answer(Verdict.RETRY, detail=f"ca_file cannot be used: {type(error).__name__}; give a PEM file")
        parts = httpcore.URL(
            scheme=b"https" if target.tls else b"http",
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        request = httpcore.Request(
            "POST",
            parts,
            headers=[
                (b"Host", _host_header(target.host, target.port, target.tls)),
                (b"User-Agent", USER_AGENT.encode()),
                (b"Content-Length", str(len(body)).encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            content=body,
            extensions={"timeout": {"connect": CONNECT_S, "read": MOST_S, "write": MOST_S, "pool": MOST_S}},
        )
        return await _posted(pool, request, now_us)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()
        if self._resolver is not None:
            self._resolver.close()

    async def _connections(self) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                self._pool = httpcore.AsyncConnectionPool(
                    # Reading certificates takes tens of milliseconds, in which nobody else should wait.
                    ssl_context=await asyncio.to_thread(tls_context, self._ca_file),
                    max_connections=CONNECTIONS,
                    keepalive_expiry=IDLE_S,
                    network_backend=CheckedBackend(self._local, self._resolve),
                )
        return self._pool


async def _posted(pool: httpcore.AsyncConnectionPool, request: httpcore.Request, now_us: int) -> Reply | Answer:
    meter_reads()
    status: int | None = None
    retry_after: float | None = None
    body = bytearray()
    try:
        async with asyncio.timeout(MOST_S):
            response = await pool.handle_async_request(request)
            status = response.status
            wanted = [value for name, value in response.headers if name.lower() == b"retry-after"]
            retry_after = retry_after_s(wanted[0].decode("latin-1"), now_us) if wanted else None
            try:
                async for piece in response.aiter_stream():
                    body += piece[: MOST_READ_BYTES - len(body)]
            finally:
                await response.aclose()
    except AddressRefusedError as error:
        return Answer(Verdict.RETRY, detail=f"refused: {error}")
    except TimeoutError:
        failure = f"no whole answer within {MOST_S:g} s"
    except TooMuchError:
        failure = f"answered more than {MOST_READ_BYTES} bytes"
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        failure = describe(error)
    else:
        return Reply(status, retry_after, bytes(body))
    if status is not None:  # it has answered; how it goes on is no concern of ours
        return Reply(status, retry_after, bytes(body))
    return Answer(Verdict.RETRY, detail=failure)


def describe(error: BaseException) -> str:
    """What went wrong with a connection, in words that hold no address and no secret."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"TLS: {seen.verify_message}; mend the certificate, or give ca_file"
        if isinstance(seen, ssl.SSLError):
            return f"TLS: {seen.reason or 'broken off'}"
        if isinstance(seen, OSError) and seen.strerror:
            return f"cannot connect: {seen.strerror}"
        seen = seen.__cause__ or seen.__context__
    return f"connection failed: {type(error).__name__}"


def _host_header(host: str, port: int, tls: bool) -> bytes:
    name = f"[{host}]" if ":" in host else host
    return (name if port == (443 if tls else 80) else f"{name}:{port}").encode()
