"""Planted: records are acknowledged, and so committed, as soon as they are folded in memory."""

from __future__ import annotations

import sys

from services.scoring import main
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.shell import Shell
from tests.faults.planted.plant import plant

_handle = Shell.handle


async def handle(shell: Shell, batches: list[RecordBatch]) -> None:
    await _handle(shell, batches)
    for batch in batches:
        batch.acknowledge()


if __name__ == "__main__":
    plant(Shell, "handle", handle)
    sys.exit(main.main())
