"""Clocks that jump: libfaketime moves what a process takes for the time of day; monotonic clocks go on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PLACES: Final = ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime", "/usr/lib/faketime")
_LIBRARY: Final = "libfaketimeMT.so.1"


def library() -> Path | None:
    """libfaketime for programs with threads, if it is installed (Debian: package libfaketime)."""
    for place in _PLACES:
        for found in sorted(Path("/").glob(f"{place.lstrip('/')}/{_LIBRARY}")):
            return found
    return None


class Clock:
    """The clock of one part, by a file that its processes read again and again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = library()
        self.set(0)

    @property
    def can_jump(self) -> bool:
        return self._library is not None

    def set(self, offset_s: int) -> None:
        """The clock is off by this from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.rename(self._file)

    def environment(self) -> dict[str, str]:
        """What a process is started with whose clock can jump; nothing without the library."""
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
