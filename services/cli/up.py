"""``touchstone up``: start the single-machine stack."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import typer

from infra.embedded.background import start_in_background
from infra.embedded.errors import AlreadyRunningError, PortTakenError, StackError, StartCancelledError, StartFailedError
from infra.embedded.ports import require_free
from infra.embedded.state import StackState
from infra.embedded.supervisor import Supervisor
from services.cli.addresses import Addresses, locate, running_stack
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.parts import choose_ports, port_needs, run_dir, stack_parts
from services.cli.settings import StackSettings, credentials_path, load_settings

# A stack that another command is just starting is waited for this long.
OTHER_START_TIMEOUT_S = 180.0


def up(
    foreground: bool = typer.Option(False, "--foreground", help="Stay, and end the stack on Ctrl-C or SIGTERM."),
    free_ports: bool = typer.Option(False, "--free-ports", help="Take free ports instead of the usual ones."),
    as_json: bool = typer.Option(False, "--json", help="Print the addresses as JSON."),
) -> None:
    """Start Kafka, ClickHouse, scoring, alerting and ingest on this machine, and return when they are ready.

    Data, logs and passwords are kept in .touchstone of the working folder (TOUCHSTONE_DATA_DIR). Starting a stack
    that runs already changes nothing and says so.

    Then: touchstone status, touchstone sql "SELECT * FROM customer_scores LIMIT 10", touchstone down.
    """
    settings = load_settings()
    if settings.kafka_bootstrap is not None:
        raise CommandError(
            f"TOUCHSTONE_KAFKA_BOOTSTRAP={settings.kafka_bootstrap} names a Kafka of its own, but up starts one: "
            "unset it (TOUCHSTONE_KAFKA_PORT moves the port)",
            ExitCode.WRONG_USE,
        )
    if foreground:
        _run(settings, free_ports=free_ports)
        return
    state = running_stack(settings.data_dir)
    state = _start(settings, free_ports=free_ports) if state is None else _already(settings, state)
    _report(settings, state, as_json=as_json)


def _start(settings: StackSettings, *, free_ports: bool) -> StackState:
    command = [sys.executable, "-m", "services.cli.main", "up", "--foreground"]
    if free_ports:
        command.append("--free-ports")
    try:
        return start_in_background(command, settings.data_dir, say=say)
    except AlreadyRunningError:
        state = running_stack(settings.data_dir)
        if state is None:
            raise
        return _already(settings, state)
    except StartFailedError as error:
        # The supervisor has said all, on our stderr too.
        raise typer.Exit(error.exit_code or ExitCode.NO) from None


def _already(settings: StackSettings, state: StackState) -> StackState:
    """A stack that runs is not touched: healthy is good, starting is waited for, anything else is said."""
    say(f"a stack runs on {settings.data_dir} already (pid {state.supervisor.pid})")
    deadline_s = time.monotonic() + OTHER_START_TIMEOUT_S
    while state.phase == "starting" and time.monotonic() < deadline_s:
        time.sleep(0.1)
        now = running_stack(settings.data_dir)
        if now is None:
            raise CommandError(f"its start failed; the log: {_logs(settings.data_dir)}", ExitCode.NO)
        state = now
    if not state.is_healthy():
        parts = ", ".join(f"{child.name} ({child.phase})" for child in state.children if child.phase != "ready")
        raise CommandError(
            f"it is not healthy: {parts or state.phase}. See `touchstone status` and {_logs(settings.data_dir)}; "
            "`touchstone down` ends it",
            ExitCode.NO,
        )
    return state


def _run(settings: StackSettings, *, free_ports: bool) -> None:
    """Be the supervisor."""
    from infra.kafka.runtime import ensure_runtime
    from infra.kafka.startup_cache import with_startup_cache

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    run_dir(settings.data_dir).mkdir(exist_ok=True)
    ports = choose_ports(settings, free=free_ports)

    def before() -> None:
        require_free(port_needs(settings, ports))
        with_startup_cache(ensure_runtime(java_home=settings.java_home, cache_dir=settings.cache_dir, say=say), say)

    supervisor = Supervisor(
        settings.data_dir, stack_parts(settings, ports), ports=ports.by_name(), say=say, before=before
    )
    try:
        supervisor.run()
    except StartCancelledError as error:
        raise CommandError(str(error), ExitCode.NO) from error
    except PortTakenError:
        raise
    except StackError as error:
        raise CommandError(f"{error}\nAll logs: {_logs(settings.data_dir)}", ExitCode.NO) from error


def _logs(data_dir: Path) -> Path:
    return data_dir / "logs"


def _report(settings: StackSettings, state: StackState, *, as_json: bool) -> None:
    where = locate(settings)
    if as_json:
        print_json(
            {
                "data_dir": str(settings.data_dir),
                "pid": state.supervisor.pid,
                "ingest": where.ingest_url,
                "alerting": where.alerting_url,
                "kafka": where.kafka_bootstrap,
                "clickhouse_native": f"{where.clickhouse_host}:{where.clickhouse_port}",
                "clickhouse_http": where.clickhouse_http_url,
                "credentials": str(credentials_path(settings.data_dir)),
            }
        )
        return
    _print_addresses(settings, where)


def _print_addresses(settings: StackSettings, where: Addresses) -> None:
    print(f"ingest      {where.ingest_url}/v1/events  (try {where.ingest_url}/docs)")
    print(f"alerting    {where.alerting_url}/v1/cases")
    print(f"Kafka       {where.kafka_bootstrap}")
    print(f"ClickHouse  {where.clickhouse_host}:{where.clickhouse_port}, {where.clickhouse_http_url}")
    print(
        f"            logins {settings.clickhouse_user}, {settings.clickhouse_reader} (reads only); "
        f"passwords in {credentials_path(settings.data_dir)}"
    )
    say("next: touchstone status, or touchstone down to end it")
