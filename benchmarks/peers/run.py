"""Start a peer on a topic that is full already, and read what it measured of itself."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent


class PeerError(RuntimeError):
    """A peer could not be installed, or did not come to the end."""


def measure(command: Sequence[str], bootstrap: str, events: int, timeout_s: float, folder: Path) -> float:
    """Events per second from its first event to its last. PeerError with the end of its output otherwise."""
    told = [*command, "--bootstrap", bootstrap, "--events", str(events)]
    with (folder / "peer.log").open("w+b") as errors:
        try:
            run = subprocess.run(
                told, stdout=subprocess.PIPE, stderr=errors, timeout=timeout_s, cwd=folder, text=True, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"not done after {timeout_s:.0f} s: {_end(folder)}") from error
    # Some peers put the cursor's control codes in front of it.
    found = re.search(r'\{"events".*?\}', run.stdout)
    if found is None:
        raise PeerError(f"ended with code {run.returncode} and no figure: {_end(folder)}")
    figures = json.loads(found.group())
    return float(figures["events"] / figures["seconds"])


def _end(folder: Path) -> str:
    return (folder / "peer.log").read_text(errors="replace").strip()[-500:]
