"""A link passes bytes as they are, and does to them what its weather says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from infra.embedded.ports import free_port
from tests.faults.weather import HOST, Link, Links, Weather

ANSWER_S = 10.0
HELD_S = 0.3
"""Long enough to see that nothing comes."""


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""
    with socket.create_server((HOST, 0)) as server:

        def answer(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    connection.sendall(data)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        # Wakes the thread that accepts.
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def link(echo: int) -> Iterator[Link]:
    made = Link("link", free_port(avoid=frozenset({echo})), echo, seed=1)
    with Links({"link": made}):
        yield made


def dial(link: Link) -> socket.socket:
    connection = socket.create_connection((HOST, link.listen), timeout=ANSWER_S)
    connection.settimeout(ANSWER_S)
    return connection


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(HELD_S)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(ANSWER_S)
    return False


def test_bytes_pass_unchanged_in_both_directions(link: Link) -> None:
    sent = bytes(range(256)) * 2_000
    with dial(link) as connection:
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        assert read(connection, len(sent)) == sent
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    until(lambda: not link.open_connections)


@pytest.mark.parametrize("weather", [Weather(hold_up=True), Weather(hold_down=True)])
def test_what_is_held_up_comes_when_the_weather_clears(link: Link, weather: Weather) -> None:
    with dial(link) as connection:
        link.set(weather)
        connection.sendall(b"late")
        assert is_silent(connection)
        link.clear()
        assert read(connection, 4) == b"late"


def test_a_cut_link_resets_what_is_open_and_refuses_what_is_new(link: Link) -> None:
    with dial(link) as connection:
        connection.sendall(b"x")
        assert read(connection, 1) == b"x"
        link.set(Weather(refuse=True))
        link.reset_all()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    # On a busy machine the reset can be quicker than the end of the connecting.
    with pytest.raises(ConnectionResetError), dial(link) as connection:
        connection.recv(1)
    link.clear()
    with dial(link) as connection:
        connection.sendall(b"y")
        assert read(connection, 1) == b"y"


def test_a_reply_is_cut_after_its_bytes_and_the_next_is_whole(link: Link) -> None:
    link.cut_reply_after(3)
    until(lambda: link.is_armed)
    with dial(link) as connection:
        connection.sendall(b"abcdef")
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(10):
                got += more
        # A reset may overtake what was sent before it.
        assert b"abc".startswith(got)
    assert link.cut_replies == 1
    with dial(link) as connection:
        connection.sendall(b"abcdef")
        assert read(connection, 6) == b"abcdef"


def test_a_delay_is_kept_and_so_is_the_order(link: Link) -> None:
    link.set(Weather(delay_s=(0.05, 0.1)))
    with dial(link) as connection:
        started_s = time.monotonic()
        connection.sendall(b"first ")
        connection.sendall(b"second")
        assert read(connection, 12) == b"first second"
        assert time.monotonic() - started_s >= 0.1


def test_a_slow_link_takes_its_time(link: Link) -> None:
    link.set(Weather(bytes_per_s=1_000_000))
    sent = bytes(300_000)
    with dial(link) as connection:
        started_s = time.monotonic()
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        assert read(connection, len(sent)) == sent
        assert time.monotonic() - started_s >= 0.2


def test_a_link_to_nobody_resets_its_clients() -> None:
    port = free_port()
    with Links({"link": (made := Link("link", port, free_port(avoid=frozenset({port})), seed=1))}):
        # On a busy machine the reset can be quicker than the end of the connecting.
        with pytest.raises(ConnectionResetError), dial(made) as connection:
            connection.recv(1)
        assert made.connected == 0
