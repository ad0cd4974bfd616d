"""For all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Read when numpy is first imported: threads of OpenBLAS spin while they wait, and tests share their machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")
