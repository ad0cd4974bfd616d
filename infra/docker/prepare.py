"""Tables, views and topics of a cluster, in one go: ``python3 /opt/prepare.py``.

Repeats change nothing, so it may run at every start. Kafka and ClickHouse that are not there yet are waited for: 120 s,
or as many as the argument says. Exit codes are those of the two programs: 0 done, 1 what exists does not fit, 2 wrong
settings, 3 cannot be reached.
"""

from __future__ import annotations

import subprocess
import sys
import time

PROGRAMS = ("infra.clickhouse.migrate", "infra.kafka.topics")
WAIT_S = 120.0
PAUSE_S = 2.0
UNREACHABLE = 3


def main(arguments: list[str]) -> int:
    """Run both, each until it can reach its server."""
    deadline_s = time.monotonic() + (float(arguments[0]) if arguments else WAIT_S)
    for program in PROGRAMS:
        while code := subprocess.run([sys.executable, "-m", program], check=False).returncode:
            if code != UNREACHABLE or time.monotonic() > deadline_s:
                return code
            time.sleep(PAUSE_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
