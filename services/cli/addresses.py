"""Where the parts are: what was set, else what the running stack wrote down, else the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.embedded.state import StackState, read_state
from services.cli.settings import StackSettings

KAFKA = "kafka"
CLICKHOUSE = "clickhouse"
CLICKHOUSE_HTTP = "clickhouse_http"
INGEST = "ingest"
ALERTING = "alerting"


@dataclass(frozen=True, slots=True)
class Addresses:
    """For clients of the parts; ``ports`` are named as in the state file."""

    kafka_bootstrap: str
    clickhouse_host: str
    clickhouse_port: int
    clickhouse_http_port: int
    ingest_host: str
    ingest_port: int
    alerting_host: str
    alerting_port: int

    @property
    def ingest_url(self) -> str:
        return f"http://{_in_url(self.ingest_host)}:{self.ingest_port}"

    @property
    def alerting_url(self) -> str:
        return f"http://{_in_url(self.alerting_host)}:{self.alerting_port}"

    @property
    def clickhouse_http_url(self) -> str:
        return f"http://{_in_url(self.clickhouse_host)}:{self.clickhouse_http_port}"


def running_stack(data_dir: Path) -> StackState | None:
    """The state of the stack on this folder while its supervisor lives."""
    state = read_state(data_dir)
    return state if state is not None and state.is_running() else None


def locate(settings: StackSettings) -> Addresses:
    """Where to find the parts now."""
    state = running_stack(settings.data_dir)
    ports = {} if state is None else state.ports

    def port(name: str, field: str) -> int:
        given: int = getattr(settings, field)
        return given if settings.is_set(field) or name not in ports else ports[name]

    return Addresses(
        settings.kafka_bootstrap or f"127.0.0.1:{port(KAFKA, 'kafka_port')}",
        reachable(settings.clickhouse_host),
        port(CLICKHOUSE, "clickhouse_port"),
        port(CLICKHOUSE_HTTP, "clickhouse_http_port"),
        reachable(settings.ingest_host),
        port(INGEST, "ingest_port"),
        reachable(settings.alerting_host),
        port(ALERTING, "alerting_port"),
    )


def reachable(host: str) -> str:
    """An address to connect to, for one to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
