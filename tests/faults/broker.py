"""Kafka as the stack runs it, with two more doors: one for workers and one for ingest, each behind a link.

A broker tells its clients under which address to come again, so a proxy in front of it is left at once unless the
broker tells the proxy's address. Clients that came in by a door are told that door's proxy.

    python -m tests.faults.broker --data DIR --port N --heap-mib M --door NAME:LISTEN:ADVERTISED ...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.embedded.ports import LOOPBACK, free_port
from infra.kafka.errors import KafkaInfraError
from infra.kafka.node import NodeSettings, format_storage, server_command, write_files
from infra.kafka.runtime import runtime_from_environment


def with_doors(properties: str, doors: Sequence[tuple[str, int, int]]) -> str:
    """Settings of a broker with more listeners: (name, port, port that clients are told)."""
    lines = []
    for line in properties.splitlines():
        if line.startswith("listeners="):
            line += "".join(f",{name}://{LOOPBACK}:{port}" for name, port, _ in doors)
        elif line.startswith("advertised.listeners="):
            line += "".join(f",{name}://{LOOPBACK}:{told}" for name, _, told in doors)
        lines.append(line)
    protocols = ",".join(f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *(door[0] for door in doors)))
    return "\n".join(
        [*lines, f"listener.security.protocol.map={protocols}", "inter.broker.listener.name=PLAINTEXT", ""]
    )


def _door(text: str) -> tuple[str, int, int]:
    name, listen, told = text.split(":")
    return name.upper(), int(listen), int(told)


def main() -> None:
    """Become the broker of a data folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--heap-mib", type=int, default=256)
    parser.add_argument("--door", type=_door, action="append", default=[])
    options = parser.parse_args()
    taken = frozenset({options.port, *(port for door in options.door for port in door[1:])})
    settings = NodeSettings(options.data, options.port, free_port(avoid=taken), heap_mib=options.heap_mib)
    try:
        runtime = runtime_from_environment()
        write_files(settings)
        properties = settings.properties_file
        properties.write_text(with_doors(properties.read_text(encoding="utf-8"), options.door), encoding="utf-8")
        format_storage(runtime, settings)
    except KafkaInfraError as error:
        sys.exit(str(error))
    command = server_command(runtime, settings)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
