"""Servers that tests start for themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.clickhouse.settings import ClickHouseSettings

STOP_S = 30
REPOSITORY = Path(__file__).parents[1]


@contextmanager
def clickhouse_server(folder: Path) -> Iterator[ClickHouseSettings]:
    """ClickHouse's engine behind its own protocols on free ports, without tables of ours; ends with the context."""
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "infra.embedded.clickhouse.main"),
                *("--data", str(folder / "data"), "--native-port", "0", "--http-port", "0"),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=REPOSITORY,
        )
    try:
        assert server.stdout is not None
        # "ready: native PORT, http PORT", or end of file when it could not start.
        words = server.stdout.readline().replace(",", "").split()
        assert words[:1] == ["ready:"], (folder / "log").read_text()
        yield ClickHouseSettings(port=int(words[2]), http_port=int(words[4]), retry_s=0, timeout_s=60)
    finally:
        server.terminate()
        server.wait(STOP_S)
        if server.stdout is not None:
            server.stdout.close()
