"""Alerting's ports over ClickHouse and Kafka. Part of the composition root: nothing else imports it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from infra.clickhouse.client import ClickHouse, quoted
from infra.kafka.publish import Publisher
from schemas.tables import (
    ALERT_ATTEMPTS,
    ALERT_CALLS,
    ALERT_LOG,
    ALERT_RULES,
    ALERT_STATES,
    DATABASE,
    TOUCHPOINTS,
    Table,
)
from schemas.topics import TOUCHPOINTS as TOUCHPOINTS_TOPIC
from services.alerting.alert import Alert, AlertState, Attempt, Call, Fate, Outcome, Phase, Turn
from services.alerting.delivery.ports import Stored
from services.alerting.intake import Segments
from services.alerting.plan import Key
from services.alerting.rules.durations import DAY_US
from services.alerting.rules.model import RuleSet
from services.alerting.sweep import MOST_AT_ONCE, Candidate, candidates_sql

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final[Mapping[Fate, int]] = {Fate.WAITING: 1}
"""Of a row of ``alert_log``: what became of a turn stands over that it waited."""
_ENDED: Final = 2
_MOST_KEYS: Final = 20_000
"""Keys of one look-up."""


def moment(us: int) -> datetime:
    """Microseconds since 1970 as the time the native protocol wants."""
    return _EPOCH + timedelta(microseconds=us)


def micros(at: datetime) -> int:
    """The reverse of `moment`."""
    return (at - _EPOCH) // timedelta(microseconds=1)


class Tables:
    """The tables of alerting. Threads may share it; raises `infra.clickhouse.errors.ClickHouseError`."""

    def __init__(self, client: ClickHouse) -> None:
        self._client = client

    def load_states(self, customers: Sequence[str]) -> dict[tuple[str, str], AlertState]:
        """Where rules stand with customers, by rule and customer; those under rule '' hold the customer's place."""
        states: dict[tuple[str, str], AlertState] = {}
        for start in range(0, len(customers), _MOST_KEYS):
            some = quoted(customers[start : start + _MOST_KEYS])
            for row in self._client.query(f"{_select(ALERT_STATES)} WHERE customer_id IN ({some})"):
                state = _state(row)
                states[state.rule, state.customer_id] = state
        return states

    def write_states(self, states: Iterable[AlertState]) -> None:
        """Keep where rules stand: of a rule and customer the row of the highest offset stands."""
        self._insert(
            ALERT_STATES,
            [
                (
                    state.rule,
                    state.customer_id,
                    state.phase.value,
                    moment(state.since_us),
                    state.alert_id,
                    moment(state.fired_us),
                    moment(state.resolved_us),
                    state.log_partition,
                    state.log_offset,
                )
                for state in states
            ],
        )

    def segments(self, customers: Sequence[str]) -> Segments:
        """What events told of customers' segments, in the order of the log."""
        told: dict[str, list[tuple[int, str]]] = {}
        for start in range(0, len(customers), _MOST_KEYS):
            rows = self._client.query(
                f"SELECT customer_id, log_offset, attributes['segment'] FROM {DATABASE}.{TOUCHPOINTS.name} "
                f"WHERE customer_id IN ({quoted(customers[start : start + _MOST_KEYS])}) "
                "AND mapContains(attributes, 'segment') ORDER BY customer_id, log_offset"
            )
            for customer, offset, segment in rows:
                told.setdefault(customer, []).append((offset, segment))
        return told

    def fates(self, alerts: Sequence[Alert]) -> dict[Key, Fate]:
        """What became of turns that are in the log of alerts already."""
        if not alerts:
            return {}
        ids = quoted(sorted({alert.alert_id for alert in alerts}))
        rows = self._client.query(
            f"SELECT alert_id, turn, fate FROM {DATABASE}.{ALERT_LOG.name} FINAL WHERE alert_id IN ({ids})"
        )
        return {(alert_id, Turn(turn)): Fate(fate) for alert_id, turn, fate in rows}

    def write_alerts(self, alerts: Iterable[Alert], fates: Mapping[Key, Fate] | None = None) -> None:
        """Keep turns of alerts, with what became of them where ``fates`` says so. The same again changes nothing."""
        rows = []
        for alert in alerts:
            fate = (fates or {}).get((alert.alert_id, alert.turn), alert.fate)
            rows.append(_alert_row(alert, fate))
        self._insert(ALERT_LOG, rows)

    def waiting(self) -> list[Alert]:
        """Turns that are in no call yet."""
        rows = self._client.query(f"{_select(ALERT_LOG)} WHERE fate = '{Fate.WAITING}'")
        return [_alert(row) for row in rows]

    def over_budget_untold(self) -> list[Alert]:
        """Firing turns over budget, of the last two days, of which no call tells."""
        rows = self._client.query(
            f"{_select(ALERT_LOG)} WHERE fate = '{Fate.OVER_BUDGET}' AND turn = '{Turn.FIRING}' "
            "AND at > now() - INTERVAL 2 DAY AND alert_id NOT IN "
            f"(SELECT arrayJoin(alert_ids) FROM {DATABASE}.{ALERT_CALLS.name} WHERE turn = '{Turn.FIRING}')"
        )
        return [_alert(row) for row in rows]

    def past_calls(self, now_us: int, waiting: Sequence[Alert]) -> list[Call]:
        """Calls of the last day, those that no resolved one answers yet, and those that tell of alerts that wait."""
        ids = quoted(sorted({alert.alert_id for alert in waiting})) if waiting else "''"
        rows = self._client.query(
            f"{_select(ALERT_CALLS)} WHERE toUnixTimestamp64Micro(made_at) > {now_us - DAY_US} "
            f"OR (turn = '{Turn.FIRING}' AND call_id NOT IN (SELECT about FROM {DATABASE}.{ALERT_CALLS.name})) "
            f"OR hasAny(alert_ids, [{ids}])"
        )
        return [_call(row) for row in rows]

    def write_calls(self, calls: Iterable[Call]) -> None:
        """Keep calls; the same again changes nothing."""
        self._insert(
            ALERT_CALLS,
            [
                (
                    call.call_id,
                    call.turn.value,
                    call.about,
                    call.rule,
                    call.severity,
                    call.receiver,
                    moment(call.made_us),
                    moment(call.not_before_us),
                    list(call.alert_ids),
                    call.document,
                )
                for call in calls
            ],
        )

    def unfinished(self) -> tuple[list[Call], list[Attempt]]:
        """Calls that were neither delivered nor given up, with the attempts made."""
        ended = f"outcome IN ('{Outcome.DELIVERED}', '{Outcome.DEAD}')"
        last = (
            f"SELECT call_id FROM {DATABASE}.{ALERT_ATTEMPTS.name} FINAL GROUP BY call_id "
            f"HAVING argMax({ended}, number)"
        )
        calls = [_call(row) for row in self._client.query(f"{_select(ALERT_CALLS)} WHERE call_id NOT IN ({last})")]
        return calls, self.attempts([call.call_id for call in calls])

    def attempts(self, call_ids: Sequence[str]) -> list[Attempt]:
        """Attempts at delivering calls, by number."""
        if not call_ids:
            return []
        rows = self._client.query(
            f"{_select(ALERT_ATTEMPTS)} WHERE call_id IN ({quoted(call_ids)}) ORDER BY call_id, number"
        )
        return [
            Attempt(call, receiver, number, micros(at), took, Outcome(outcome), status, detail, micros(again))
            for call, number, receiver, at, took, outcome, status, detail, again in rows
        ]

    def calls(self, call_ids: Sequence[str]) -> list[Call]:
        """Calls by their ids."""
        if not call_ids:
            return []
        return [
            _call(row) for row in self._client.query(f"{_select(ALERT_CALLS)} WHERE call_id IN ({quoted(call_ids)})")
        ]

    def write_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Keep attempts; the same again changes nothing."""
        self._insert(
            ALERT_ATTEMPTS,
            [
                (
                    attempt.call_id,
                    attempt.number,
                    attempt.receiver,
                    moment(attempt.at_us),
                    attempt.took_us,
                    attempt.outcome.value,
                    attempt.status,
                    attempt.detail,
                    moment(attempt.next_us),
                )
                for attempt in attempts
            ],
        )

    def write_rules(self, rules: RuleSet, now_us: int) -> None:
        """Keep by which rules alerting decides; a reading that was kept before keeps its time."""
        known = self._client.query(
            f"SELECT count() FROM {DATABASE}.{ALERT_RULES.name} WHERE rules_version = %(version)s",
            {"version": rules.rules_version},
        )
        if known[0][0]:
            return
        self._insert(
            ALERT_RULES,
            [
                (
                    rules.rules_version,
                    moment(now_us),
                    rule.name,
                    rule.severity,
                    rule.owner,
                    rule.cost_of_contact,
                    rule.held_out,
                    rule.definition(),
                )
                for rule in rules.by_name.values()
            ],
        )

    def candidates(self, rules: RuleSet) -> list[Candidate]:
        """Customers whom some rule may have to look at, as of now."""
        rows = self._client.query(f"{candidates_sql(rules)} LIMIT {50 * MOST_AT_ONCE}")
        return [Candidate(*row) for row in rows]

    def focus_alerts(self, rule: str) -> list[Alert]:
        """Turns of a rule about a part of the company."""
        rows = self._client.query(f"{_select(ALERT_LOG)} WHERE rule = %(rule)s AND customer_id = ''", {"rule": rule})
        return [_alert(row) for row in rows]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        return self._client.query(sql)

    def _insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        self._client.insert_rows(table.name, table.names, rows)


class CallStore:
    """`delivery.ports.Store` over the tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def record(self, attempts: Sequence[Attempt]) -> None:
        await asyncio.to_thread(self._tables.write_attempts, attempts)

    async def find(self, call_ids: Sequence[str]) -> Sequence[Stored]:
        return await asyncio.to_thread(self._find, call_ids)

    def _find(self, call_ids: Sequence[str]) -> list[Stored]:
        by_call: dict[str, list[Attempt]] = {}
        for attempt in self._tables.attempts(call_ids):
            by_call.setdefault(attempt.call_id, []).append(attempt)
        return [Stored(call, by_call.get(call.call_id, [])) for call in self._tables.calls(call_ids)]


class Log:
    """The log that reviews and steps of cases are appended to. For one thread at a time; locked for others."""

    def __init__(self, publisher: Publisher, lock: Callable[[], Any]) -> None:
        self._publisher = publisher
        self._lock = lock()

    def append(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        """Returns when the log has acknowledged all records."""
        with self._lock:
            self._publisher.publish(TOUCHPOINTS_TOPIC, customers, values, timestamp_ms)


def _select(table: Table) -> str:
    return f"SELECT {', '.join(table.names)} FROM {DATABASE}.{table.name} FINAL"


def _state(row: tuple[Any, ...]) -> AlertState:
    rule, customer, phase, since, alert_id, fired, resolved, partition, offset = row
    return AlertState(
        rule, customer, Phase(phase), micros(since), alert_id, micros(fired), micros(resolved), partition, offset
    )


def _call(row: tuple[Any, ...]) -> Call:
    call_id, turn, about, rule, severity, receiver, made, not_before, alert_ids, document = row
    return Call(
        call_id,
        Turn(turn),
        about,
        rule,
        severity,
        receiver,
        micros(made),
        micros(not_before),
        tuple(alert_ids),
        document,
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _alert_row(alert: Alert, fate: Fate) -> tuple[Any, ...]:
    facts = alert.facts
    return (
        alert.alert_id,
        alert.turn.value,
        alert.rule,
        alert.rules_version,
        alert.customer_id,
        alert.subject,
        moment(alert.at_us),
        moment(alert.fired_us),
        alert.severity,
        alert.owner,
        moment(alert.due_us),
        alert.summary,
        _number(facts.get("risk")),
        str(facts.get("band", "")),
        _number(facts.get("score")),
        _number(facts.get("value_at_risk")),
        str(facts.get("segment", "")),
        json.dumps(dict(facts), ensure_ascii=False),
        [tuple(reason) for reason in alert.reasons],
        alert.signal_id,
        alert.log_partition,
        alert.log_offset,
        fate.value,
        _VERSION.get(fate, _ENDED),
    )


def _alert(row: tuple[Any, ...]) -> Alert:
    of = dict(zip(ALERT_LOG.names, row, strict=True))
    return Alert(
        alert_id=of["alert_id"],
        turn=Turn(of["turn"]),
        rule=of["rule"],
        rules_version=of["rules_version"],
        customer_id=of["customer_id"],
        subject=of["subject"],
        at_us=micros(of["at"]),
        fired_us=micros(of["fired_at"]),
        severity=of["severity"],
        owner=of["owner"],
        due_us=micros(of["due_at"]),
        summary=of["summary"],
        facts=json.loads(of["facts"]),
        reasons=[tuple(reason) for reason in of["reasons"]],
        signal_id=of["signal_id"],
        log_partition=of["log_partition"],
        log_offset=of["log_offset"],
        fate=Fate(of["fate"]),
    )
