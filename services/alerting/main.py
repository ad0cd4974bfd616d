"""The alerting process: ``python -m services.alerting.main``. Several may run: one decides and calls, others stand by.

topic loyalty-signals -> desk (decide) -> tables -> office (plan, deliver, sweep, watch) -> receivers
                                                 <- HTTP (cases, may I survey) <- people
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import uvicorn
from prometheus_client import start_http_server
from pydantic import SecretStr, ValidationError

from infra.clickhouse.client import connect
from infra.clickhouse.errors import TransientError
from infra.clickhouse.settings import ClickHouseSettings
from infra.guarded_http import Server, guarded
from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.follow import Followed, Follower
from infra.kafka.publish import Publisher
from infra.logs import LogSettings, set_up
from schemas.topics import ALERTING_GROUP, LOYALTY_SIGNALS
from services.alerting.adapters import CallStore, Log, Tables
from services.alerting.alert import Alert, Told
from services.alerting.app import alerting_app
from services.alerting.case_ports import CasePorts, StandingByError
from services.alerting.case_tables import CaseTables
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.delivery.long_tail import ExtraMissingError
from services.alerting.delivery.metrics import DeliveryMetrics
from services.alerting.delivery.senders import build_senders
from services.alerting.desk import Desk
from services.alerting.metrics import AlertingMetrics
from services.alerting.office import Intervals, Office
from services.alerting.rules.read import RulesError
from services.alerting.rules_file import RulesFile
from services.alerting.settings import AlertingSettings
from services.alerting.tokens import ACKNOWLEDGE, TokenKeys

_log: Final = logging.getLogger("touchstone.alerting")

EXIT_WRONG_SETTINGS: Final = 2
EXIT_NOT_LISTENING: Final = 3
TRANSIENT: Final = (TransientError, ClusterUnreachableError)
SWITCH_S: Final = 0.0005
"""Longest that one thread keeps the interpreter from another: each step of a delivery's socket would else wait up to
5 ms behind the thread that decides."""
MOST_RETRY_S: Final = 2
"""Whoever asks tries again, for as long as it takes."""


def now_us() -> int:
    """The process's clock, microseconds UTC."""
    return time.time_ns() // 1000


def keys_of(given: SecretStr, name: str) -> tuple[str, ...]:
    """Secrets with commas between, or @ and the path of a file with one a line. ValueError names the setting."""
    text = given.get_secret_value().strip()
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8").replace("\n", ",")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}: file {text[1:]} cannot be read: {type(error).__name__}") from error
    return tuple(key for part in text.split(",") if (key := part.strip()))


class Service:
    """The wiring, and who holds office."""

    def __init__(self, settings: AlertingSettings, where: ClickHouseSettings) -> None:
        """Raises RulesError, OSError and ExtraMissingError for the rules file, ValueError for keys."""
        self._settings = settings
        self._file = RulesFile(settings.rules)
        self._rules = self._file.rules
        build_senders(self._file.rules.receivers)
        link_keys = keys_of(settings.link_keys, "TOUCHSTONE_ALERTING_LINK_KEYS")
        self._token_keys = TokenKeys(tuple(key.encode() for key in link_keys)) if link_keys else None
        self._metrics = AlertingMetrics()
        self._delivery = DeliveryMetrics(self._metrics.registry)
        client = connect(where.model_copy(update={"retry_s": min(where.retry_s, MOST_RETRY_S)}))
        self._tables = Tables(client)
        self._log_of_events = Log(Publisher(settings.kafka_bootstrap), threading.Lock)
        api_keys = keys_of(settings.api_keys, "TOUCHSTONE_API_KEYS")
        if not api_keys and settings.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"TOUCHSTONE_ALERTING_HOST={settings.host} can be reached from elsewhere: set TOUCHSTONE_API_KEYS, "
                "or listen on 127.0.0.1"
            )
        self._ports = CasePorts(
            reader=CaseTables(client),
            append=self._log_of_events.append,
            transient=TRANSIENT,
            now_us=now_us,
            api_keys=api_keys,
            token_keys=self._token_keys,
            guard=lambda: self._file.rules.survey_guard,
            resend=self._resend,
        )
        self._holds = False
        self._changed = asyncio.Event()
        self._office: Office | None = None
        self._metrics.watch(lambda: self._holds, lambda: self._office.waiting if self._office else 0)

    async def run(self) -> bool:
        """Serve until told to stop. False: the HTTP interface could not listen."""
        loop = asyncio.get_running_loop()
        desk = Desk(
            self._tables,
            lambda: self._rules,
            lambda alerts: _into(loop, self._take, alerts),
            self._metrics,
            now_us,
        )

        def handle(records: Sequence[Followed]) -> None:
            desk.take([record.value for record in records])

        follower = Follower(
            self._settings.kafka_bootstrap,
            LOYALTY_SIGNALS,
            ALERTING_GROUP,
            handle,
            most=10_000,
            on_held=lambda holds: _into(loop, self._hold, holds),
        )
        if self._settings.metrics_port:
            start_http_server(self._settings.metrics_port, self._settings.metrics_host, self._metrics.registry)
        server = self._server()
        follower.start()
        try:
            async with asyncio.TaskGroup() as group:
                terms = group.create_task(self._terms())
                watching = group.create_task(self._watch_rules())
                await server.serve()
                await asyncio.to_thread(follower.stop)
                watching.cancel()
                terms.cancel()
        finally:
            await asyncio.to_thread(follower.stop)
        return server.started

    def _server(self) -> Server:
        settings = self._settings
        return Server(
            uvicorn.Config(
                alerting_app(self._ports),
                host=settings.host,
                port=settings.port,
                http=guarded(),
                ws="none",
                lifespan="off",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                log_level=settings.log_level,
                log_config=None,
                limit_concurrency=500,
                timeout_graceful_shutdown=max(1, int(settings.stop_timeout_s)),
            )
        )

    # Office

    def _take(self, alerts: Sequence[Alert]) -> None:
        if self._office is not None:
            self._office.take(alerts)

    def _hold(self, holds: bool) -> None:
        _log.info("this process %s", "decides and calls from now on" if holds else "stands by")
        self._holds = holds
        # At once: alerts that are decided from now on are for the next office, also while the former one closes.
        self._office = self._make_office() if holds else None
        # Not before: an office of the former rules would leave alerts of a new rule untold.
        self._rules = self._file.rules
        self._changed.set()

    async def _watch_rules(self) -> None:
        while True:
            await asyncio.sleep(self._settings.rules_interval_s)
            if await asyncio.to_thread(self._file.look):
                _log.info("rules %s hold from now on", self._file.rules.rules_version)
                self._hold(self._holds)
            self._metrics.rules_wrong(self._file.wrong)

    async def _terms(self) -> None:
        """One office after the other; each ends before the next opens."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                office = self._office
                if office is None:
                    continue
                office.dispatcher.announce()
                term = group.create_task(office.run())
                ended = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({term, ended}, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                term.cancel()
                await asyncio.wait({term})
                self._delivery.forget()

    def _make_office(self) -> Office:
        rules = self._file.rules
        dispatcher = Dispatcher(build_senders(rules.receivers), CallStore(self._tables), observer=self._delivery)
        return Office(
            rules,
            self._tables,
            self._log_of_events.append,
            dispatcher,
            Intervals(self._settings.sweep_interval_s, self._settings.focus_interval_s),
            self._told,
            now_us,
            TRANSIENT,
            self._metrics,
        )

    async def _resend(self, call_id: str) -> None:
        if self._office is None:
            raise StandingByError
        await self._office.dispatcher.resend(call_id)

    def _told(self, alerts: Sequence[Alert]) -> Told:
        """Links for alerts, where there is an address and a key."""
        base = self._settings.base_url.rstrip("/")
        if not base or self._token_keys is None:
            return Told(base)
        expires_s = int(time.time() + self._settings.link_days * 86_400)
        return Told(
            base,
            {
                alert.alert_id: f"{base}/cases/{alert.alert_id}?token="
                + quote(self._token_keys.sign(alert.alert_id, ACKNOWLEDGE, expires_s))
                for alert in alerts
            },
        )


def _into(loop: asyncio.AbstractEventLoop, act: object, *arguments: object) -> None:
    """Have the loop do something, from another thread; at its end nobody is there to."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *arguments)  # type: ignore[arg-type]


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings, where, logs = AlertingSettings(), ClickHouseSettings(), LogSettings()
        set_up(settings.log_level, logs)
        service = Service(settings, where)
    except (ValidationError, RulesError, ExtraMissingError, OSError, ValueError) as error:
        sys.stderr.write(f"alerting: {error}\n")
        return EXIT_WRONG_SETTINGS
    sys.setswitchinterval(SWITCH_S)
    return 0 if asyncio.run(service.run()) else EXIT_NOT_LISTENING


if __name__ == "__main__":
    sys.exit(main())
