"""Planted: ingest says ok when records are on their way to Kafka, not when they are there."""

from __future__ import annotations

import asyncio
import sys

from services.ingest import main
from services.ingest.admit import Admission
from services.ingest.writer import Writer
from tests.faults.planted.plant import plant

_write = Writer.write
_under_way: set[asyncio.Task[list[int]]] = set()


async def write(writer: Writer, admission: Admission) -> list[int]:
    task = asyncio.get_running_loop().create_task(_write(writer, admission))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return []


if __name__ == "__main__":
    plant(Writer, "write", write)
    sys.exit(main.main())
