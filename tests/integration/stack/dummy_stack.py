"""A supervisor over small Python programs, run as a process of its own: ``dummy_stack.py DATA_DIR SPECS_JSON``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from signal import Signals
from typing import Any

from infra.embedded.children import ChildSpec, RestartPolicy
from infra.embedded.errors import StackError
from infra.embedded.ports import PortNeed, require_free
from infra.embedded.supervisor import Part, Preparation, Supervisor


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _part(data_dir: Path, spec: dict[str, Any]) -> Part:
    name = spec["name"]
    if "prepare" in spec:
        return Preparation(name, lambda: exec(spec["prepare"], {"data_dir": data_dir}))
    ready_file = data_dir / f"{name}.ready"
    return ChildSpec(
        name,
        (sys.executable, "-c", spec["program"], str(data_dir), str(ready_file)),
        ready_file.exists,
        env={"DUMMY_NAME": name},
        ready_timeout_s=spec.get("ready_timeout_s", 20.0),
        stop_timeout_s=spec.get("stop_timeout_s", 10.0),
        restart=RestartPolicy(
            first_delay_s=0.05, max_delay_s=0.2, healthy_after_s=spec.get("healthy_after_s", 30.0), crash_loop_after=3
        ),
        removed_before_start=(ready_file,),
        on_supervisor_death=Signals[spec.get("on_supervisor_death", "SIGTERM")],
    )


def main() -> None:
    data_dir = Path(sys.argv[1])
    config = json.loads(sys.argv[2])
    needs = [PortNeed("dummy", port, "TOUCHSTONE_DUMMY_PORT") for port in config.get("ports", [])]
    supervisor = Supervisor(
        data_dir,
        [_part(data_dir, spec) for spec in config["parts"]],
        ports={"dummy": 1},
        say=_say,
        before=lambda: require_free(needs),
        log_cap_bytes=config.get("log_cap_bytes", 1_000_000),
    )
    try:
        supervisor.run()
    except StackError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
