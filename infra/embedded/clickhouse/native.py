"""ClickHouse's native TCP protocol over the engine: one thread a connection."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from dataclasses import replace
from typing import Final

from infra.embedded.clickhouse import compression, packets, sql
from infra.embedded.clickhouse.access import Login, ReadGate, Users
from infra.embedded.clickhouse.binding import Stats
from infra.embedded.clickhouse.blocks import BLOCK_INFO, header_block, skip_block, skip_block_info, split_blocks
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import (
    NOT_IMPLEMENTED,
    QUERY_WAS_CANCELLED,
    UNEXPECTED_PACKET_FROM_CLIENT,
    ClickHouseError,
    ProtocolError,
)
from infra.embedded.clickhouse.feed import Bounded, Feed
from infra.embedded.clickhouse.insertion import Insertion
from infra.embedded.clickhouse.session import Session
from infra.embedded.clickhouse.watch import Watch
from infra.embedded.clickhouse.wire import ByteReader, string, varint

log = logging.getLogger(__name__)

LOGIN_TIMEOUT_S: Final = 10.0
# A client that stops in the middle of a packet is gone; between packets it may rest.
PACKET_TIMEOUT_S: Final = 300.0
IDLE_TIMEOUT_S: Final = 3600.0
APPEND_BYTES: Final = 1 << 20


class NativeConnection:
    """One client from hello to the end of its connection."""

    def __init__(self, peer: socket.socket, engine: Engine, users: Users, gate: ReadGate, watch: Watch) -> None:
        self._peer = peer
        self._engine = engine
        self._users = users
        self._gate = gate
        self._watch = watch
        self._revision = 0
        self._session: Session | None = None
        self._login: Login | None = None
        self._send_lock = threading.Lock()
        self._login_by_s = time.monotonic() + LOGIN_TIMEOUT_S
        self._in = ByteReader(self._receive)

    def _receive(self) -> bytes:
        if self._login is None:
            # For the greeting as a whole: who drips it byte by byte would hold a connection for hours.
            left_s = self._login_by_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no greeting in time")
            self._peer.settimeout(left_s)
        return self._peer.recv(packets.RECEIVE_BYTES)

    def serve(self) -> None:
        """Serve until the client leaves or breaks the protocol; never raises."""
        try:
            self._peer.settimeout(LOGIN_TIMEOUT_S)
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._hello():
                self._packets()
        except (EOFError, OSError):
            pass
        except ProtocolError as error:
            log.warning("native connection closed: %s", error)
            with contextlib.suppress(OSError):
                self._send(self._exception(ClickHouseError(UNEXPECTED_PACKET_FROM_CLIENT, str(error))))
        except Exception:
            log.exception("native connection failed")
        finally:
            if self._session is not None:
                self._session.close()
            with contextlib.suppress(OSError):
                self._peer.close()

    def _send(self, *parts: bytes) -> None:
        with self._send_lock:
            self._peer.sendall(b"".join(parts) if len(parts) > 1 else parts[0])

    def _hello(self) -> bool:
        reader = self._in
        if reader.varint() != packets.HELLO:
            raise ProtocolError("the first packet is no hello")
        reader.text(packets.MAX_LOGIN_BYTES)
        reader.varint()
        reader.varint()
        self._revision = min(reader.varint(), packets.REVISION)
        database, user, password = (reader.text(packets.MAX_LOGIN_BYTES) for _ in range(3))
        if self._revision < packets.REVISION_CLIENT_INFO:
            raise ProtocolError("the client is too old")
        try:
            self._login = self._users.login(user, password)
            self._session = self._engine.session(self._login.reader, database)
        except ClickHouseError as error:
            self._send(self._exception(error))
            return False
        self._send(self._server_hello())
        return True

    def _server_hello(self) -> bytes:
        major, minor, patch = (int(part) for part in self._engine.version.split(".")[:3])
        out = [varint(packets.S_HELLO), string("ClickHouse"), varint(major), varint(minor), varint(packets.REVISION)]
        if self._revision >= packets.REVISION_TIMEZONE:
            out.append(string(self._engine.timezone))
        if self._revision >= packets.REVISION_DISPLAY_NAME:
            out.append(string(self._engine.host_name))
        if self._revision >= packets.REVISION_VERSION_PATCH:
            out.append(varint(patch))
        return b"".join(out)

    def _packets(self) -> None:
        while True:
            self._peer.settimeout(IDLE_TIMEOUT_S)
            if self._in.at_end():
                return
            packet = self._in.varint()
            self._peer.settimeout(PACKET_TIMEOUT_S)
            if packet == packets.PING:
                self._send(varint(packets.S_PONG))
            elif packet == packets.QUERY:
                self._query()
            elif packet == packets.CANCEL:
                continue  # came after the end of its query
            elif packet == packets.TABLES_STATUS:
                self._send(self._tables_status())
            else:
                raise ProtocolError(f"unexpected packet {packet}")

    def _tables_status(self) -> bytes:
        """Answer to a server that asks through `remote` how late our replicas are: no table is replicated."""
        count = self._in.varint()
        if count > packets.MAX_SETTINGS:
            raise ProtocolError("a request for too many tables")
        names = [
            string(self._in.blob(packets.MAX_LOGIN_BYTES)) + string(self._in.blob(packets.MAX_LOGIN_BYTES))
            for _ in range(count)
        ]
        return varint(packets.S_TABLES_STATUS) + varint(count) + b"".join(name + b"\x00" for name in names)

    # -- a query and its answer ---------------------------------------------------------------------------------

    def _query(self) -> None:
        query, problem = self._read_query()
        session = self._session
        assert session is not None
        tables: list[str] = []
        try:
            try:
                if problem is not None:
                    raise problem
                statement = self._admitted(query)
            finally:
                self._external_tables(query, session, tables, refuse=problem is not None)
            settings = self._gate.settings(query.settings) if session.reader else query.settings
            stats = Stats()
            head = None if session.reader else sql.parse_insert(statement)
            if isinstance(head, sql.Insert):
                self._insert(session, head, statement, query, settings, stats)
            else:
                self._select(session, statement, query, settings, stats)
            # Old clients take nothing but the end after an insert.
            wanted = not isinstance(head, sql.Insert) or self._revision >= packets.REVISION_WRITE_INFO
            self._send(self._progress(stats) if wanted else b"", varint(packets.S_END))
        except ClickHouseError as error:
            self._send(self._exception(error))
        finally:
            for name in tables:
                session.run(f"DROP TEMPORARY TABLE IF EXISTS {sql.quote_name(name)}")

    def _read_query(self) -> tuple[packets.Query, ClickHouseError | None]:
        reader = self._in
        reader.text(packets.MAX_LOGIN_BYTES)
        packets.skip_client_info(reader, self._revision)
        settings, problem = packets.read_settings(reader, self._revision, self._engine.setting_types)
        if self._revision >= packets.REVISION_INTERSERVER_SECRET:
            reader.blob(packets.MAX_LOGIN_BYTES)
        stage = reader.varint()
        compressed = reader.varint() == 1
        assert self._session is not None
        limit = packets.MAX_READER_QUERY_BYTES if self._session.reader else packets.MAX_QUERY_BYTES
        text = reader.blob(limit).decode("utf-8", "surrogateescape")
        if stage != packets.STAGE_COMPLETE:
            problem = ClickHouseError(NOT_IMPLEMENTED, "Only whole queries are served, no intermediate stages")
        return packets.Query(text, settings, compressed), problem

    def _admitted(self, query: packets.Query) -> str:
        """The statement to run, in the form for the engine; output files and formats are the client's business."""
        assert self._session is not None
        text = sql.without_outfile(query.text)
        if sql.first_word(text) != "INSERT":
            _, text = sql.output_format(text)
        return self._gate.check(text, {}) if self._session.reader else text

    def _plain(self, compressed: bool) -> ByteReader:
        """A reader of the blocks to come; frames of one packet are read through a reader of their own."""
        return ByteReader(compression.frames_of(self._in)) if compressed else self._in

    def _external_tables(self, query: packets.Query, session: Session, tables: list[str], refuse: bool) -> None:
        """Take the data packets that follow every query: temporary tables, ended by an empty block."""
        size = 0
        while True:
            packet = self._in.varint()
            if packet not in {packets.DATA, packets.SCALAR}:
                raise ProtocolError(f"a query is followed by packet {packet} instead of its data")
            name = self._in.text(packets.MAX_LOGIN_BYTES)
            plain = self._plain(query.compressed)
            if self._revision >= packets.REVISION_BLOCK_INFO:
                skip_block_info(plain)
            pieces: list[bytes] = []
            plain.tee(Bounded(pieces, packets.MAX_EXTERNAL_BYTES).take)
            shape = skip_block(plain)
            plain.untee()
            if plain is not self._in and plain.buffered():
                raise ProtocolError("bytes after the end of a block")
            if not shape.columns and packet == packets.DATA:
                return
            if refuse or packet == packets.SCALAR:
                continue
            size += sum(map(len, pieces))
            if size > packets.MAX_EXTERNAL_BYTES:
                raise ProtocolError(f"external tables of more than {packets.MAX_EXTERNAL_BYTES} bytes")
            if name not in tables:
                structure = ", ".join(
                    f"{sql.quote_name(column)} {self._engine.type_name(type_)}"
                    for column, type_ in shape.names_and_types
                )
                session.run(f"CREATE TEMPORARY TABLE {sql.quote_name(name)} ({structure}) ENGINE = Memory")
                tables.append(name)
            if shape.rows:
                target = sql.quote_name(name)
                insertion = session.insert(sql.Insert(f"INSERT INTO {target}", "", target, "", "Native", 0))
                insertion.append(b"".join(pieces))
                insertion.finish()

    def _select(
        self,
        session: Session,
        statement: str,
        query: packets.Query,
        settings: dict[str, str],
        stats: Stats,
    ) -> None:
        streams = sql.first_word(statement) in sql.ROW_READING_WORDS
        sent = False
        with self._watch.during(self._peer, session.cancel, self._keep_alive) as watched:
            chunks = session.stream(statement, settings, stats=stats)
            try:
                with contextlib.closing(chunks):
                    for chunk in chunks:
                        for block in (chunk,) if streams else split_blocks(chunk):
                            if not sent:
                                header = self._header(session, statement, settings, block)
                                self._send(*self._data(header, query.compressed))
                            self._send(*self._data(block, query.compressed))
                            sent = True
            except ClickHouseError as error:
                if not (watched.given_up and error.code == QUERY_WAS_CANCELLED):
                    raise
                return  # the client asked for it and waits for the end, not for an error
            if not sent and streams:
                header = header_block(session.header_of(statement, settings))
                self._send(*self._data(header, query.compressed))
        rows, size = varint(stats.result_rows), varint(stats.result_bytes)
        self._send(varint(packets.S_PROFILE), rows, varint(1), size, b"\x00\x00\x00")

    def _header(self, session: Session, statement: str, settings: dict[str, str], block: bytes) -> bytes:
        """The block of names and types that clients expect before the first rows."""
        try:
            return header_block(skip_block(ByteReader.of(block)).names_and_types)
        except ClickHouseError:
            # A type that cannot be walked. The session's own connection is busy with the result.
            other = session.twin()
            try:
                return header_block(other.header_of(statement, settings))
            finally:
                other.close()

    def _keep_alive(self) -> None:
        """An empty progress packet, unless an answer is just being sent."""
        if self._send_lock.acquire(blocking=False):
            try:
                self._peer.send(self._progress(Stats()), socket.MSG_DONTWAIT)
            finally:
                self._send_lock.release()

    def _insert(
        self,
        session: Session,
        head: sql.Insert,
        statement: str,
        query: packets.Query,
        settings: dict[str, str],
        stats: Stats,
    ) -> None:
        inline = statement[head.data_start :].strip(" \t\r\n;")
        if inline:
            insertion = session.insert(head, settings)
            insertion.append(statement[head.data_start :].encode("utf-8", "surrogateescape"))
            insertion.finish()
        else:
            columns = session.columns_of(head.described, head.columns)
            self._send(*self._data(header_block(columns), query.compressed))
            insertion_ = self._insert_blocks(session, head, query, settings)
            if insertion_ is None:
                return
            insertion = insertion_
        stats.written_rows, stats.written_bytes = insertion.stats.written_rows, insertion.stats.written_bytes

    def _insert_blocks(
        self, session: Session, head: sql.Insert, query: packets.Query, settings: dict[str, str]
    ) -> Insertion | None:
        """Pass the client's blocks to the engine until its empty block."""
        feed = Feed(session, replace(head, format="Native"), settings)
        try:
            while self._next_block(query, feed):
                pass
        except BaseException:
            # The client left or broke the protocol: nothing of an unfinished insert may stay.
            feed.cancel()
            raise
        return feed.finish()

    def _next_block(self, query: packets.Query, feed: Feed) -> bool:
        packet = self._in.varint()
        if packet == packets.CANCEL:
            feed.fail(ClickHouseError(QUERY_WAS_CANCELLED, "Query was cancelled"))
            return False
        if packet == packets.PING:
            return True
        if packet != packets.DATA:
            raise ProtocolError(f"unexpected packet {packet} in an insert")
        self._in.text(packets.MAX_LOGIN_BYTES)
        plain = self._plain(query.compressed)
        if self._revision >= packets.REVISION_BLOCK_INFO:
            skip_block_info(plain)
        feed.begin_block()
        plain.tee(feed.take)
        shape = skip_block(plain)
        plain.untee()
        if plain is not self._in and plain.buffered():
            raise ProtocolError("bytes after the end of a block")
        feed.end_block(keep=shape.columns > 0)
        return shape.columns > 0

    # -- packets ------------------------------------------------------------------------------------------------

    def _data(self, block: bytes, compressed: bool) -> tuple[bytes, ...]:
        info = BLOCK_INFO if self._revision >= packets.REVISION_BLOCK_INFO else b""
        head = varint(packets.S_DATA) + b"\x00"
        if compressed:
            return (head, compression.compress(info + block))
        return (head, info, block)

    def _progress(self, stats: Stats) -> bytes:
        out = varint(packets.S_PROGRESS) + varint(stats.read_rows) + varint(stats.read_bytes) + b"\x00"
        if self._revision >= packets.REVISION_WRITE_INFO:
            out += varint(stats.written_rows) + varint(stats.written_bytes)
        return out

    def _exception(self, error: ClickHouseError) -> bytes:
        text = f"DB::Exception: {error.message}. ({error.name})"
        return b"".join(
            (
                varint(packets.S_EXCEPTION),
                struct.pack("<i", error.code),
                string("DB::Exception"),
                string(text),
                b"\x00\x00",
            )
        )
