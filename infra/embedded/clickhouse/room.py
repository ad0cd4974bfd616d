"""Room on the disk: some is always kept, and what was written while it ran out is looked through.

The engine takes a failed write for a good one: on a full disk inserts are acknowledged, and merges replace their
sources, although every file of the new part is empty. So writes are refused (243, which clients repeat) and merges
stand still while less than a reserve is free, and so does an insert find out that met a shortage on its way.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infra.embedded.clickhouse.errors import NOT_ENOUGH_SPACE, UNREADABLE, ClickHouseError, EngineError
from infra.embedded.clickhouse.hollow import HollowParts

if TYPE_CHECKING:
    from infra.embedded.clickhouse.engine import Engine

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2
_AMPLE: Final = 1.25
"""Times the reserve that must be free before writing goes on, so that it does not flutter."""
_MARGIN_S: Final = 5.0
"""How long before the last good look a part may be from that is checked."""
_PATIENCE_S: Final = 300.0
"""Hollow parts are best mended where there is room. But a merge's sources are kept for 480 s only."""


class Room:
    """Watches the data folder's disk. `begin` and `end` go around everything that writes; both may refuse."""

    def __init__(self, engine: Engine, folder: Path, reserve_bytes: int) -> None:
        """``reserve_bytes`` stay free; 0 watches nothing."""
        self._engine, self._folder, self._reserve_bytes = engine, folder, reserve_bytes
        self._hollow = HollowParts(engine.connect)
        self._lock = threading.Lock()
        self._shortages = 0
        self._short = False
        self._doubtful = False
        self._good_s = self._since_s = time.time()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="clickhouse-room", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        if self._reserve_bytes:
            self._thread.start()

    def begin(self) -> int:
        """Before something is written: what `end` wants to have. Raises ClickHouseError 243 while room is short."""
        if self._look():
            raise self._refusal()
        return self._shortages

    def end(self, begun: int) -> None:
        """After it: raises ClickHouseError 243 when room was short meanwhile, for the engine would not have told."""
        if self._look() or self._shortages != begun:
            self._doubtful = True
            raise self._refusal()

    def wait_in_place(self) -> None:
        """Before a statement: wait while a table is opened again. Takes no time when none is."""
        self._hollow.in_place.wait(_PATIENCE_S)

    def reading_failed(self, error: EngineError) -> ClickHouseError:
        """What to tell a client: a part that a shortage left hollow can be read again once there is room."""
        if (self._short or self._doubtful) and error.code in UNREADABLE:
            return self._refusal()
        return error

    def _refusal(self) -> ClickHouseError:
        free_mib = self._free_bytes() >> 20
        return ClickHouseError(
            NOT_ENOUGH_SPACE,
            f"The disk of the data folder has {free_mib} MiB left, and {self._reserve_bytes >> 20} MiB must stay free"
            " (TOUCHSTONE_CLICKHOUSE_MIN_FREE_BYTES); free some, then repeat",
            "NOT_ENOUGH_SPACE",
        )

    def _free_bytes(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def _look(self) -> bool:
        """Whether room is short. A shortage begins here; its end is the watch's to say."""
        if self._short or not self._reserve_bytes:
            return self._short
        now_s, free_bytes = time.time(), self._free_bytes()
        with self._lock:
            if self._short or free_bytes >= self._reserve_bytes:
                self._good_s = now_s
                return self._short
            self._short = True
            self._shortages += 1
            self._since_s = self._good_s - _MARGIN_S
        log.error(
            "%d MiB left on the disk of the data folder: writes are refused until there is more", free_bytes >> 20
        )
        return True

    def _watch(self) -> None:
        stopped = False
        while not self._closing.wait(LOOK_S):
            try:
                if self._look() and not stopped:
                    self._engine.root("SYSTEM STOP MERGES")
                    stopped = True
                if self._short and self._free_bytes() < self._reserve_bytes * _AMPLE:
                    if time.time() - self._since_s > _PATIENCE_S:
                        self._hollow.mend(self._since_s)
                    continue
                if self._short or self._doubtful:
                    self._doubtful = False
                    self._hollow.mend(self._since_s)
                if self._short:
                    self._engine.root("SYSTEM START MERGES")
                    stopped, self._short = False, False
                    self._hollow.forget()
                    log.warning("there is room again on the disk of the data folder: writes go on")
            except Exception:
                # Whatever it was, the next look tries again; a watch that ended would leave all writes refused.
                self._doubtful = True
                log.exception("could not look through what was written while the disk was full")

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._hollow.close()
