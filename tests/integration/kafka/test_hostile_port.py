"""Bytes that no Kafka client sends: the broker closes the connection and goes on."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from infra.kafka.admin import KafkaAdmin

pytestmark = pytest.mark.stack

SEED = 20_260_330


def test_30_random_bytes_and_huge_lengths_end_their_connection_only(kafka: str) -> None:
    chance = random.Random(SEED)
    host, _, port = kafka.partition(":")
    api_versions = struct.pack(">hhi", 18, 0, 1) + struct.pack(">h", 4) + b"test"
    said = [struct.pack(">i", size) + b"x" * 64 for size in (-1, 0, 1 << 30, (1 << 31) - 1)]
    said += [chance.randbytes(chance.randrange(1, 2_000)) for _ in range(40)]
    for _ in range(40):
        broken = bytearray(struct.pack(">i", len(api_versions)) + api_versions)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        said.append(bytes(broken))
    for data in said:
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65_536):
                    pass
            except OSError:
                continue
    with KafkaAdmin(kafka) as admin:
        assert admin.cluster().brokers
