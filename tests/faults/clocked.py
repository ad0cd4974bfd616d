"""Runs a program of ours under libfaketime: ``python -m tests.faults.clocked MODULE``.

libfaketime answers Python's ``time.sleep`` with EINVAL now and then (it takes the absolute deadline on the monotonic
clock for a past one). So sleep here waits by another call of the system; everything else is the program's own.
"""

from __future__ import annotations

import runpy
import select
import sys
import time
from typing import Any


def sleep(seconds: Any) -> None:
    """``time.sleep``."""
    if float(seconds) < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], float(seconds))


if __name__ == "__main__":
    time.sleep = sleep
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
