"""Disks that can be full: a small file system in memory where one may be mounted, else a limit on a process's files.

Mounts are made in a name space of this program's own, so that they end with it whatever happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

SIZE_MIB: Final = 768
_INSIDE: Final = "FAULTS_MOUNT_NAMESPACE"
_WAYS: Final = (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount"))
"""As root, or as anybody where the system gives everyone name spaces."""


def enter_namespace(arguments: list[str]) -> None:
    """Run this program again in a mount name space of its own, if one can be had; else do nothing."""
    if os.environ.get(_INSIDE) or sys.platform != "linux" or shutil.which("unshare") is None:
        return
    for way in _WAYS:
        mounts = ["sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
        if subprocess.run([*way, *mounts], capture_output=True, check=False).returncode == 0:
            os.environ[_INSIDE] = "1"
            os.execvp(way[0], [*way, sys.executable, "-m", "tests.faults", *arguments])


class Disk:
    """The disk of one part of the stack, at ``folder``. ``pid`` tells the part's process, None while there is none."""

    def __init__(self, folder: Path, pid: Callable[[], int | None]) -> None:
        self._folder = folder
        self._pid = pid
        folder.mkdir(parents=True, exist_ok=True)
        self.mounted = bool(os.environ.get(_INSIDE)) and _run(
            "mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "none", str(folder)
        )
        self._filler = folder / "filler"

    @property
    def how(self) -> str:
        return f"tmpfs of {SIZE_MIB} MiB, filled" if self.mounted else "RLIMIT_FSIZE of the process"

    def fill(self) -> None:
        """From now on nothing can be written."""
        if self.mounted:
            with self._filler.open("ab") as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            # What is left is less than a piece of the filler.
            with self._filler.open("ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(512))
        else:
            self._limit(0)

    def free(self) -> None:
        """Room again."""
        self._filler.unlink(missing_ok=True)
        if not self.mounted:
            self._limit(psutil.RLIM_INFINITY)

    def _limit(self, file_bytes: int) -> None:
        pid = self._pid()
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
                process.rlimit(psutil.RLIMIT_FSIZE, (file_bytes, hard))

    def close(self) -> None:
        """Unmount, once nothing uses it."""
        if self.mounted:
            _run("umount", "--lazy", str(self._folder))


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
