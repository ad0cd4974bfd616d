"""Entry of the embedded ClickHouse server: `python -m infra.embedded.clickhouse.main --data DIR`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from pydantic import ValidationError

from infra.embedded.clickhouse.access import ReadGate, Users
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import ClickHouseError
from infra.embedded.clickhouse.http import HttpServer
from infra.embedded.clickhouse.listener import NativeServer
from infra.embedded.clickhouse.settings import ClickHouseServerSettings
from infra.guarded_http import guarded
from infra.logs import LogSettings, set_up

log = logging.getLogger("infra.embedded.clickhouse")

# Running statements may end within this; then the process ends, and the engine keeps what was acknowledged.
STOP_GRACE_S: Final = 20.0
# A statement may be in the URL, as far as ClickHouse allows it; it is read before anybody has logged in.
MAX_HTTP_HEAD_BYTES: Final = 1 << 20
WRONG_USE: Final = 2
CANNOT_START: Final = 3


class _Uvicorn(uvicorn.Server):
    """Leaves signals to this process's own handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it; without, head and body of a response wait for each other's acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind((host, port))
        listening.listen(256)
    except BaseException:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Take the folder for this process; raises OSError when another server has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _tell_of_parts_set_aside(engine: Engine) -> None:
    """The engine starts without parts that it cannot read, and says nothing."""
    found = engine.root(
        "SELECT database, table, name FROM system.detached_parts WHERE startsWith(reason, 'broken') ORDER BY ALL"
    )
    for line in found.splitlines():
        database, table, name = line.split("\t")
        log.error("part %s of %s.%s cannot be read and is set aside: touchstone verify", name, database, table)


async def serve(settings: ClickHouseServerSettings, folder: Path, native: socket.socket, http: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; returns after a clean end."""
    engine = Engine(folder, settings.limits, settings.clickhouse_min_free_bytes)
    _tell_of_parts_set_aside(engine)
    users = Users(
        settings.clickhouse_user,
        settings.clickhouse_password.get_secret_value(),
        settings.clickhouse_reader,
        settings.clickhouse_reader_password.get_secret_value(),
    )
    gate = ReadGate(engine)
    application = HttpServer(engine, users, gate, threads=settings.clickhouse_max_connections)
    native_server = NativeServer(native, engine, users, gate, settings.clickhouse_max_connections)
    web = _Uvicorn(
        uvicorn.Config(
            application,
            loop="uvloop",
            http=guarded(max_head_bytes=MAX_HTTP_HEAD_BYTES),
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=settings.clickhouse_max_connections,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=int(STOP_GRACE_S),
        )
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    native_server.start()
    serving = asyncio.create_task(web.serve(sockets=[http]))
    print(f"ready: native {native.getsockname()[1]}, http {http.getsockname()[1]}", flush=True)
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 5)
        application.expire_sessions()
    log.info("stopping")
    web.should_exit = True
    await serving
    await asyncio.to_thread(native_server.stop, STOP_GRACE_S)
    await asyncio.to_thread(application.close)
    gate.close()
    engine.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the server; returns the exit code (2 wrong use, 3 cannot start)."""
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.clickhouse.main", description=__doc__)
    parser.add_argument("--data", type=Path, help="data folder (default: TOUCHSTONE_DATA_DIR/clickhouse)")
    parser.add_argument("--host", help="address to listen on (TOUCHSTONE_CLICKHOUSE_HOST)")
    parser.add_argument("--native-port", type=int, help="0 picks a free one (TOUCHSTONE_CLICKHOUSE_PORT)")
    parser.add_argument("--http-port", type=int, help="0 picks a free one (TOUCHSTONE_CLICKHOUSE_HTTP_PORT)")
    given = parser.parse_args(arguments)
    overrides = {
        "clickhouse_host": given.host,
        "clickhouse_port": given.native_port,
        "clickhouse_http_port": given.http_port,
    }
    try:
        settings = ClickHouseServerSettings(**{name: value for name, value in overrides.items() if value is not None})
        set_up("info", LogSettings())
    except ValidationError as error:
        print(f"wrong settings: {error}", file=sys.stderr)
        return WRONG_USE
    folder = given.data or settings.data_dir / "clickhouse"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_locked(folder))
        except OSError as error:
            return _cannot_start(f"the data folder {folder} cannot be taken, another server may run on it: {error}")
        host, ports = settings.clickhouse_host, (settings.clickhouse_port, settings.clickhouse_http_port)
        try:
            native, http = (held.enter_context(_listen(host, port)) for port in ports)
        except OSError as error:
            return _cannot_start(f"port {ports[0]} or {ports[1]} on {host} cannot be used, choose others: {error}")
        try:
            asyncio.run(serve(settings, folder, native, http))
        except ClickHouseError as error:
            return _cannot_start(f"the data folder {folder} cannot be opened: {error}")
    return 0


def _cannot_start(message: str) -> int:
    print(message, file=sys.stderr)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
