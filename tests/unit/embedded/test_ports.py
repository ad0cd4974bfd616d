from __future__ import annotations

import os
import socket

import pytest

from infra.embedded.errors import PortTakenError
from infra.embedded.ports import PortNeed, free_port, holder, is_free, require_free
from infra.embedded.probes import http_get, http_ok, listens


def test_a_free_port_can_be_had_and_avoids_others() -> None:
    first = free_port()
    assert is_free(first)
    assert free_port(avoid=frozenset({first})) != first


def test_a_taken_port_names_part_holder_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        assert listens("127.0.0.1", port)
        assert f"pid {os.getpid()}" in holder(port)
        with pytest.raises(PortTakenError) as caught:
            require_free([PortNeed("Kafka", port, "TOUCHSTONE_KAFKA_PORT")])
    message = str(caught.value)
    for part in (f"port {port} for Kafka", f"pid {os.getpid()}", "set TOUCHSTONE_KAFKA_PORT", "--free-ports"):
        assert part in message


def test_one_port_for_two_parts_is_named() -> None:
    port = free_port()
    needs = [PortNeed("Kafka", port, "TOUCHSTONE_KAFKA_PORT"), PortNeed("ingest", port, "TOUCHSTONE_INGEST_PORT")]
    with pytest.raises(PortTakenError, match=r"both Kafka \(TOUCHSTONE_KAFKA_PORT\) and ingest"):
        require_free(needs)


def test_probes_of_nobody_say_no() -> None:
    port = free_port()
    assert not listens("127.0.0.1", port)
    assert not http_ok("127.0.0.1", port, "/")
    status, reason = http_get("127.0.0.1", port, "/")
    assert (status, "refused" in reason) == (0, True)
