"""Start a program that ends when its parent does: ``python -I -S launch.py PARENT_PID SIGNAL PROGRAM
ARGS...``.

Linux delivers SIGNAL to the program when the thread that started it ends, however it ended (kill -9 too);
elsewhere the wish is ignored and the next `up` or `down` clears what was left. A tiny program of its own,
as setting this between fork and exec is not safe in a process with threads; it imports nothing of ours and
becomes PROGRAM by exec.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def launch_command(argv: list[str], *, parent_pid: int, on_parent_death: signal.Signals = signal.SIGTERM) -> list[str]:
    """``argv`` made to receive ``on_parent_death`` when the calling thread of ``parent_pid`` ends."""
    return [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__)),
        str(parent_pid),
        str(int(on_parent_death)),
        *argv,
    ]


def main() -> None:
    parent_pid, signal_number, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The parent may have ended before the wish was registered.
        if os.getppid() != parent_pid:
            sys.exit(f"the parent {parent_pid} ended before {argv[0]} started")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
