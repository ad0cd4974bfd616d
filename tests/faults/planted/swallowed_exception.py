"""Planted: what goes wrong with a batch is logged, and the batch is taken for done."""

from __future__ import annotations

import logging
import sys

from services.scoring import main
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.shell import Shell
from tests.faults.planted.plant import plant

_handle = Shell.handle


async def handle(shell: Shell, batches: list[RecordBatch]) -> None:
    try:
        await _handle(shell, batches)
    except Exception:
        logging.getLogger(__name__).exception("a batch failed")
        for batch in batches:
            batch.acknowledge()


if __name__ == "__main__":
    plant(Shell, "handle", handle)
    sys.exit(main.main())
