"""Sends a load, over HTTP to ingest and straight to Kafka, and remembers what was answered to what."""

from __future__ import annotations

import heapq
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from confluent_kafka import Producer

from infra.kafka.producer import client_config
from schemas.topics import TOUCHPOINTS
from tests.faults.load import SENDERS, Direct, Load, Request

ANSWER_S: Final = 15.0
"""Longest that a sender waits; ingest promises an answer well before."""
_RETRY_S: Final = 0.5
_TICK_S: Final = 0.02


@dataclass(slots=True)
class Book:
    """What the senders know. Shared by them; read it when they are done."""

    tried: set[bytes] = field(default_factory=set)
    """Events that were ever put on their way."""
    acknowledged: set[bytes] = field(default_factory=set)
    """Events for which ingest said ok, or Kafka acknowledged the record."""
    unknown: set[bytes] = field(default_factory=set)
    """Events of which some try had no answer, or none that tells."""
    refused: set[bytes] = field(default_factory=set)
    """Events that ingest refused in some try."""
    accepted_wrongly: int = 0
    """Events that must be refused, and were not."""
    refusals: int = 0
    """Verdicts that refuse an event, of wrong events and of good ones (whose clock is ahead)."""
    places: dict[tuple[int, int], bytes | None] = field(default_factory=dict)
    """Partition and offset to the bytes, as Kafka acknowledged them."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Answers of ingest by status, and failures by name."""
    slowest_answer_s: float = 0.0
    abandoned: int = 0
    """Records and requests that were not acknowledged to the end."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class HttpSender:
    """One upstream system: a connection, requests in their order, those that failed again after a while."""

    def __init__(self, port: int, requests: Sequence[Request], book: Book) -> None:
        self._port = port
        self._due: list[tuple[float, int, Request]] = [
            (request.at_s, number, request) for number, request in enumerate(requests)
        ]
        heapq.heapify(self._due)
        self._book = book
        self._connection: http.client.HTTPConnection | None = None

    def run(self, started_s: float, give_up: threading.Event) -> None:
        """Until all is answered, or until told to give up."""
        while self._due and not give_up.is_set():
            at_s, number, request = heapq.heappop(self._due)
            while (left_s := started_s + at_s - time.monotonic()) > 0:
                if give_up.wait(min(left_s, 0.2)):
                    break
            if not self._send(request) and request.patient:
                heapq.heappush(self._due, (time.monotonic() - started_s + _RETRY_S, number, request))
        with self._book.lock:
            self._book.abandoned += len(self._due)

    def _send(self, request: Request) -> bool:
        """False if the request is to be sent again."""
        started_s = time.monotonic()
        ids = [event_id for event_id in request.event_ids if event_id is not None]
        try:
            if self._connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
                connection.connect()
                self._connection = connection
            with self._book.lock:
                self._book.tried.update(ids)
            self._connection.request("POST", "/v1/events", request.body, {"content-type": "application/json"})
            response = self._connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            with self._book.lock:
                self._book.statuses[type(error).__name__] += 1
                self._book.unknown.update(set(ids) & self._book.tried)
            return False
        with self._book.lock:
            self._book.statuses[str(status)] += 1
            self._book.slowest_answer_s = max(self._book.slowest_answer_s, time.monotonic() - started_s)
            return self._note(request, status, body)

    def _note(self, request: Request, status: int, body: bytes) -> bool:
        book = self._book
        try:
            document: dict[str, Any] = orjson.loads(body)
        except ValueError:
            document = {}
        results = document.get("results") or []
        if len(results) != len(request.event_ids):
            book.unknown.update(event_id for event_id in request.event_ids if event_id is not None)
            return 400 <= status < 500 and status != 429
        again = False
        for event_id, result in zip(request.event_ids, results, strict=True):
            verdict = result["verdict"]
            book.refusals += verdict == "drop"
            if event_id is None:
                book.accepted_wrongly += verdict != "drop"
            elif verdict in ("ok", "warning"):
                book.acknowledged.add(event_id)
            elif verdict == "drop":
                book.refused.add(event_id)
            else:
                book.unknown.add(event_id)
                again = True
        return not again


class KafkaSender:
    """An upstream system that writes to the log itself."""

    def __init__(self, bootstrap: str, records: Sequence[Direct], book: Book) -> None:
        # One try for each record, so long that any fault is over by then.
        self._producer = Producer(
            client_config(bootstrap, linger_ms=5, delivery_timeout_ms=60_000, max_records=200_000)
        )
        self._records = records
        self._book = book

    def run(self, started_s: float, give_up: threading.Event) -> None:
        """Until all is acknowledged, or until told to give up."""
        for record in self._records:
            while time.monotonic() < started_s + record.at_s:
                self._producer.poll(_TICK_S)
            if record.event_id is not None:
                with self._book.lock:
                    self._book.tried.add(record.event_id)
            self._producer.produce(
                TOUCHPOINTS, record.value, record.key, timestamp=record.timestamp_ms, on_delivery=self._noting(record)
            )
        while len(self._producer) and not give_up.is_set():
            self._producer.poll(_TICK_S)
        with self._book.lock:
            self._book.abandoned += len(self._producer)

    def _noting(self, record: Direct) -> Callable[[Any, Any], None]:
        def note(error: Any, message: Any) -> None:
            with self._book.lock:
                if error is not None:
                    if record.event_id is not None:
                        self._book.unknown.add(record.event_id)
                    return
                if record.event_id is not None:
                    self._book.acknowledged.add(record.event_id)
                self._book.places[message.partition(), message.offset()] = record.value

        return note


class Sending:
    """A load under way, on threads of its own."""

    def __init__(self, load: Load, *, ingest_port: int, bootstrap: str) -> None:
        self.book = Book()
        self.started_s = time.monotonic()
        self._give_up = threading.Event()
        self._errors: list[BaseException] = []
        senders: list[HttpSender | KafkaSender] = [
            HttpSender(ingest_port, [one for one in load.requests if one.sender == number], self.book)
            for number in range(SENDERS)
        ]
        senders.append(KafkaSender(bootstrap, load.records, self.book))
        self._threads = [threading.Thread(target=self._run, args=(sender,), daemon=True) for sender in senders]
        for thread in self._threads:
            thread.start()

    def _run(self, sender: HttpSender | KafkaSender) -> None:
        try:
            sender.run(self.started_s, self._give_up)
        except BaseException as error:  # raised by `finish`
            self._errors.append(error)

    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    def finish(self, timeout_s: float) -> Book:
        """Wait until everything is answered or given up, and until nobody sends any more."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._give_up.set()
        for thread in self._threads:
            thread.join(ANSWER_S + 5)
        if self._errors:
            raise self._errors[0]
        return self.book
