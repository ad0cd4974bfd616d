"""How much memory this process may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


def memory_limit_bytes(cgroup: Path = _CGROUP) -> int:
    """The container's limit, or the machine's memory where there is none or that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = cgroup.read_text("ascii").strip()
    except OSError:  # no cgroup of version 2, or the root of them
        return machine
    return min(int(text), machine) if text.isdecimal() else machine
