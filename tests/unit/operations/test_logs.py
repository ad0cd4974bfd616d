"""Lines that machines and people can read, one an event, with nobody's data in them and no flood."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest

from infra.clickhouse.errors import of_code
from infra.logs import LogSettings, set_up
from infra.logs.flood import BURST_OURS, FloodFilter
from infra.logs.formats import JsonLines, TextLines

Format = Literal["json", "text"]
PERSON = "Ada Lovelace"


@pytest.fixture
def logs() -> Iterator[Callable[[Format], io.StringIO]]:
    """Sets the process's logging up, and puts it back."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook)

    def start(log_format: Format) -> io.StringIO:
        stream = io.StringIO()
        set_up("info", LogSettings(log_format=log_format), stream)
        return stream

    yield start
    logging.captureWarnings(False)
    root.handlers[:], level, sys.excepthook, threading.excepthook = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_a_json_line_has_time_level_logger_message_and_fields(logs: Callable[[Format], io.StringIO]) -> None:
    stream = logs("json")
    before = datetime.now(UTC)
    logging.getLogger("services.scoring.test").warning("%d rows\nwere late", 3, extra={"partition": 2})
    [line] = lines(stream)
    at = datetime.fromisoformat(str(line.pop("time")))
    assert at.tzinfo == UTC
    assert abs((at - before).total_seconds()) < 60
    assert line == {
        "level": "warning",
        "logger": "services.scoring.test",
        "message": "3 rows\nwere late",
        "partition": 2,
    }


def test_a_text_line_stays_one_line_whatever_is_in_it(logs: Callable[[Format], io.StringIO]) -> None:
    stream = logs("text")
    logging.getLogger("services.test").info("a\nb\x1b[31m\u2028c %s", "d\r\n", extra={"number": 7})
    [line] = stream.getvalue().splitlines()
    assert "INFO services.test: a\\x0ab\\x1b[31m\\u2028c d\\x0d\\x0a number=7" in line


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_an_exception_quotes_is_left_out(logs: Callable[[Format], io.StringIO], log_format: Format) -> None:
    stream = logs(log_format)
    log = logging.getLogger("services.test")
    error = raised(ValueError(f"cannot parse {PERSON}"), raised(KeyError(PERSON)))
    log.warning("no luck: %s", error)
    log.warning("no luck: %r", error)
    log.warning("no luck with %(what)s", {"what": error})
    log.warning(error)
    log.error("crashed", exc_info=error)
    logging.getLogger("somebody.else").error("crashed: %r", error, exc_info=error, extra={"message_in_hand": PERSON})
    refused = of_code(62, f"Syntax error: failed at 'SELECT {PERSON}'", "ClickHouse at here:9000")
    log.error("the tables refuse: %s", refused, exc_info=raised(refused))
    text = stream.getvalue()
    assert "Ada" not in text
    assert "Lovelace" not in text
    assert "no luck: ValueError" in text
    assert "StatementRefusedError: ClickHouse at here:9000: code 62" in text
    assert "KeyError" in text, "the cause"
    assert "in raised" in text, "the place"


def test_what_the_system_says_is_told(logs: Callable[[Format], io.StringIO]) -> None:
    stream = logs("text")
    logging.getLogger("services.test").warning("no: %s", ConnectionRefusedError(111, "Connection refused"))
    assert "no: ConnectionRefusedError: [Errno 111] Connection refused" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_nobody_caught_becomes_a_line_without_data(
    logs: Callable[[Format], io.StringIO], log_format: Format
) -> None:
    stream = logs(log_format)

    def fail() -> None:
        raise ValueError(PERSON)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    error = raised(ValueError(PERSON))
    sys.excepthook(type(error), error, error.__traceback__)

    async def lose_a_task() -> None:
        async def failing() -> None:
            raise ValueError(PERSON)

        task = asyncio.get_running_loop().create_task(failing())
        await asyncio.wait([task])
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": task.exception(), "future": task}
        )

    asyncio.run(lose_a_task())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    text = stream.getvalue()
    assert PERSON not in text
    for said in ("a thread ended", "the process ends", "Task exception was never retrieved", "old ways"):
        assert said in text


@pytest.mark.parametrize("formatter", [JsonLines, TextLines])
def test_a_record_is_left_as_it_is_for_other_handlers(formatter: type[logging.Formatter]) -> None:
    error = raised(ValueError(PERSON))
    record = logging.LogRecord("x", logging.ERROR, "", 0, "no: %s", (error,), (ValueError, error, None))
    before = dict(vars(record))
    formatter().format(record)
    assert {name: value for name, value in vars(record).items() if name in before} == before


class Flood:
    """A logger whose clock stands still until it is moved."""

    def __init__(self, name: str) -> None:
        self.stream = io.StringIO()
        self.now_s = 0.0
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.filter = FloodFilter(handler, clock_s=lambda: self.now_s)
        handler.addFilter(self.filter)
        self.log = logging.Logger(name)
        self.log.addHandler(handler)

    def written(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_a_flood_becomes_one_line_a_minute_and_a_number() -> None:
    flood = Flood("aiokafka.conn")
    for minute in range(3):
        flood.now_s = 60.0 * minute
        for attempt in range(100):
            flood.log.error("Unable to connect to %s: attempt %d", "broker:9092", attempt)
    flood.filter.tell_all()
    assert (
        flood.written()
        == [
            "aiokafka.conn ERROR Unable to connect to broker:9092: attempt 0",
            "aiokafka.conn ERROR 99 more like this were not written: Unable to connect to %s: attempt %d",
        ]
        * 3
    )


def test_numbers_inside_a_message_make_no_new_one() -> None:
    flood = Flood("kafka.conn")
    for attempt in range(50):
        flood.log.warning(f"attempt {attempt} failed")
    flood.log.warning("another one")
    assert flood.written() == ["kafka.conn WARNING attempt 0 failed", "kafka.conn WARNING another one"]
    flood.filter.tell_all()
    assert flood.written()[2:] == ["kafka.conn WARNING 49 more like this were not written: attempt # failed"]


def test_our_own_messages_may_come_a_few_times() -> None:
    flood = Flood("services.ingest.writer")
    for number in range(BURST_OURS + 3):
        flood.log.warning("%d events", number)
    flood.filter.tell_all()
    assert len(flood.written()) == BURST_OURS + 1
    assert flood.written()[-1].endswith("3 more like this were not written: %d events")


def test_numbers_are_told_when_silence_follows() -> None:
    flood = Flood("aiokafka")
    for _ in range(4):
        flood.log.error("gone")
    flood.now_s = 61.0
    flood.filter.tell_due()
    assert flood.written()[-1] == "aiokafka ERROR 3 more like this were not written: gone"
    flood.filter.tell_all()
    assert len(flood.written()) == 2, "told once"


def test_messages_do_not_pile_up_in_memory() -> None:
    flood = Flood("chatty")
    words = ["".join(chr(97 + (number // 26**place) % 26) for place in range(4)) for number in range(5_000)]
    for word in words:
        flood.log.info(word)
    assert len(flood.written()) == 5_000
    assert len(flood.filter._windows) <= 2_000
