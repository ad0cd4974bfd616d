"""clickhouse-driver, taught to send blocks that are laid out already.

The driver turns Python values into columns value by value or, from numpy, column by column with copies and pandas'
look for nulls; a block of `infra.clickhouse.blocks` is bytes already and goes out in one write. All else (login,
settings, errors, the end of the insert) stays the driver's.
"""

from __future__ import annotations

from typing import Any

import clickhouse_driver
from clickhouse_cityhash.cityhash import CityHash64
from clickhouse_driver import defines
from clickhouse_driver.block import BlockInfo, ColumnOrientedBlock
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str

from infra.clickhouse.blocks import Block


class PreparedBlock:
    """A block that goes out piece by piece, and a token that tells its content from any other's."""

    def __init__(self, block: Block) -> None:
        self.block = block
        # Of each piece, then of all these: together they would be one more copy of a large set. Bytes, as the library
        # never lets go of the memory behind a memoryview.
        hashes = [CityHash64(bytes(piece)).to_bytes(8, "little") for piece in block.pieces(serialisation_byte=False)]
        self.token = f"{block.table}-{block.rows}-{CityHash64(b''.join(hashes)):016x}"


class BlockClient(clickhouse_driver.Client):  # type: ignore[misc]  # the driver has no types
    """A client whose `execute` also takes ``[PreparedBlock]`` as the data of an INSERT."""

    def send_data(self, sample_block: Any, data: Any, types_check: bool = False, columnar: bool = False) -> int:
        """Send the data of an INSERT, then the empty block that ends it; returns the number of rows."""
        if not (isinstance(data, list) and len(data) == 1 and isinstance(data[0], PreparedBlock)):
            return int(super().send_data(sample_block, data, types_check=types_check, columnar=columnar))
        block = data[0].block
        connection = self.connection
        revision = connection.server_info.used_revision
        out = connection.fout
        write_varint(ClientPacketTypes.DATA, out)
        write_binary_str("", out)
        BlockInfo().write(out)
        newer = revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION
        for piece in block.pieces(serialisation_byte=newer):
            out.write(bytes(piece))
        out.flush()
        self.receive_profile_events()
        connection.send_data(ColumnOrientedBlock())
        self.receive_profile_events()
        return int(block.rows)
