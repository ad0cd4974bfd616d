"""ClickHouse's native TCP protocol over the engine: one thread a connection."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from clickhouse_driver.settings.available import settings as old_settings
from clickhouse_driver.settings.types import SettingChar, SettingFloat, SettingString

from infra.embedded.clickhouse import compression, sql
from infra.embedded.clickhouse.access import Login, ReadGate, Users
from infra.embedded.clickhouse.blocks import BLOCK_INFO, header_block, skip_block, skip_block_info, split_blocks
from infra.embedded.clickhouse.engine import Engine, Insertion, Session, Stats
from infra.embedded.clickhouse.errors import (
    NOT_IMPLEMENTED,
    QUERY_WAS_CANCELLED,
    UNEXPECTED_PACKET_FROM_CLIENT,
    UNKNOWN_SETTING,
    ClickHouseError,
    ProtocolError,
)
from infra.embedded.clickhouse.watch import Watch
from infra.embedded.clickhouse.wire import ByteReader, string, varint

log = logging.getLogger(__name__)

# Below 54454 columns carry no serialisation byte, so blocks pass between client and engine as they are.
REVISION: Final = 54453
REVISION_BLOCK_INFO: Final = 51903
REVISION_CLIENT_INFO: Final = 54032
REVISION_TIMEZONE: Final = 54058
REVISION_QUOTA_KEY: Final = 54060
REVISION_DISPLAY_NAME: Final = 54372
REVISION_VERSION_PATCH: Final = 54401
REVISION_WRITE_INFO: Final = 54420
REVISION_SETTINGS_AS_STRINGS: Final = 54429
REVISION_INTERSERVER_SECRET: Final = 54441
REVISION_OPENTELEMETRY: Final = 54442
REVISION_FORWARDED_FOR: Final = 54443
REVISION_REFERER: Final = 54447
REVISION_DISTRIBUTED_DEPTH: Final = 54448
REVISION_QUERY_START_TIME: Final = 54449
REVISION_PARALLEL_REPLICAS: Final = 54453

HELLO, QUERY, DATA, CANCEL, PING, TABLES_STATUS = range(6)
SCALAR: Final = 7
S_HELLO, S_DATA, S_EXCEPTION, S_PROGRESS, S_PONG, S_END, S_PROFILE = range(7)
S_TABLES_STATUS: Final = 9
INTERFACE_TCP: Final = 1
INTERFACE_HTTP: Final = 2
STAGE_COMPLETE: Final = 2

MAX_LOGIN_BYTES: Final = 4096
MAX_QUERY_BYTES: Final = 256 << 20
MAX_READER_QUERY_BYTES: Final = 4 << 20
# What a query may bring along as temporary tables; they are held in memory.
MAX_EXTERNAL_BYTES: Final = 64 << 20
MAX_SETTINGS: Final = 4096
RECEIVE_BYTES: Final = 1 << 20
LOGIN_TIMEOUT_S: Final = 10.0
# A client that stops in the middle of a packet is gone; between packets it may rest.
PACKET_TIMEOUT_S: Final = 300.0
IDLE_TIMEOUT_S: Final = 3600.0
APPEND_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Query:
    """A query packet."""

    text: str
    settings: dict[str, str]
    compressed: bool


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
        self._in = ByteReader(lambda: peer.recv(RECEIVE_BYTES))

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
        if reader.varint() != HELLO:
            raise ProtocolError("the first packet is no hello")
        reader.text(MAX_LOGIN_BYTES)
        reader.varint()
        reader.varint()
        self._revision = min(reader.varint(), REVISION)
        database, user, password = (reader.text(MAX_LOGIN_BYTES) for _ in range(3))
        if self._revision < REVISION_CLIENT_INFO:
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
        out = [varint(S_HELLO), string("ClickHouse"), varint(major), varint(minor), varint(REVISION)]
        if self._revision >= REVISION_TIMEZONE:
            out.append(string(self._engine.timezone))
        if self._revision >= REVISION_DISPLAY_NAME:
            out.append(string(self._engine.host_name))
        if self._revision >= REVISION_VERSION_PATCH:
            out.append(varint(patch))
        return b"".join(out)

    def _packets(self) -> None:
        while True:
            self._peer.settimeout(IDLE_TIMEOUT_S)
            if self._in.at_end():
                return
            packet = self._in.varint()
            self._peer.settimeout(PACKET_TIMEOUT_S)
            if packet == PING:
                self._send(varint(S_PONG))
            elif packet == QUERY:
                self._query()
            elif packet == CANCEL:
                continue  # came after the end of its query
            elif packet == TABLES_STATUS:
                self._send(self._tables_status())
            else:
                raise ProtocolError(f"unexpected packet {packet}")

    def _tables_status(self) -> bytes:
        """Answer to a server that asks through `remote` how late our replicas are: no table is replicated."""
        count = self._in.varint()
        if count > MAX_SETTINGS:
            raise ProtocolError("a request for too many tables")
        names = [string(self._in.blob(MAX_LOGIN_BYTES)) + string(self._in.blob(MAX_LOGIN_BYTES)) for _ in range(count)]
        return varint(S_TABLES_STATUS) + varint(count) + b"".join(name + b"\x00" for name in names)

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
            wanted = not isinstance(head, sql.Insert) or self._revision >= REVISION_WRITE_INFO
            self._send(self._progress(stats) if wanted else b"", varint(S_END))
        except ClickHouseError as error:
            self._send(self._exception(error))
        finally:
            for name in tables:
                session.run(f"DROP TEMPORARY TABLE IF EXISTS {sql.quote_name(name)}")

    def _read_query(self) -> tuple[Query, ClickHouseError | None]:
        reader = self._in
        reader.text(MAX_LOGIN_BYTES)
        self._skip_client_info()
        settings, problem = self._read_settings()
        if self._revision >= REVISION_INTERSERVER_SECRET:
            reader.blob(MAX_LOGIN_BYTES)
        stage = reader.varint()
        compressed = reader.varint() == 1
        assert self._session is not None
        limit = MAX_READER_QUERY_BYTES if self._session.reader else MAX_QUERY_BYTES
        text = reader.blob(limit).decode("utf-8", "surrogateescape")
        if stage != STAGE_COMPLETE:
            problem = ClickHouseError(NOT_IMPLEMENTED, "Only whole queries are served, no intermediate stages")
        return Query(text, settings, compressed), problem

    def _skip_client_info(self) -> None:
        reader, revision = self._in, self._revision
        if reader.u8() == 0:
            return
        for _ in range(3):
            reader.blob(MAX_LOGIN_BYTES)
        if revision >= REVISION_QUERY_START_TIME:
            reader.exactly(8)
        interface = reader.u8()
        if interface == INTERFACE_TCP:
            for _ in range(3):
                reader.blob(MAX_LOGIN_BYTES)
            for _ in range(3):
                reader.varint()
        elif interface == INTERFACE_HTTP:  # a server passes on what an HTTP client of its own asked
            reader.u8()
            for since in (0, REVISION_FORWARDED_FOR, REVISION_REFERER):
                if revision >= since:
                    reader.blob(MAX_LOGIN_BYTES)
        if revision >= REVISION_QUOTA_KEY:
            reader.blob(MAX_LOGIN_BYTES)
        if revision >= REVISION_DISTRIBUTED_DEPTH:
            reader.varint()
        if revision >= REVISION_VERSION_PATCH and interface == INTERFACE_TCP:
            reader.varint()
        if revision >= REVISION_OPENTELEMETRY and reader.u8():
            reader.exactly(24)
            reader.blob(MAX_LOGIN_BYTES)
            reader.u8()
        if revision >= REVISION_PARALLEL_REPLICAS:
            for _ in range(3):
                reader.varint()

    def _read_settings(self) -> tuple[dict[str, str], ClickHouseError | None]:
        reader, found, problem = self._in, dict[str, str](), None
        for _ in range(MAX_SETTINGS):
            name = reader.text(MAX_LOGIN_BYTES)
            if not name:
                return found, problem
            important = True
            if self._revision >= REVISION_SETTINGS_AS_STRINGS:
                important = bool(reader.u8() & 1)
                value = reader.text(1 << 20)
            else:
                value = self._old_setting(name)
            if name in self._engine.setting_names:
                found[name] = value
            elif important:
                problem = ClickHouseError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
        raise ProtocolError("a query with too many settings")

    def _old_setting(self, name: str) -> str:
        """A setting in the typed form of old clients; its type must be known to find its end."""
        kind = old_settings.get(name)
        if kind is None:
            raise ProtocolError("a setting of unknown type")
        if isinstance(kind, SettingString | SettingFloat | SettingChar):
            return self._in.text(1 << 20)
        return str(self._in.varint())

    def _admitted(self, query: Query) -> str:
        """The statement to run, in the form for the engine; output files and formats are the client's business."""
        assert self._session is not None
        text = sql.without_outfile(query.text)
        if sql.first_word(text) != "INSERT":
            _, text = sql.output_format(text)
        return self._gate.check(text, {}) if self._session.reader else text

    def _plain(self, compressed: bool) -> ByteReader:
        """A reader of the blocks to come; frames of one packet are read through a reader of their own."""
        return ByteReader(compression.frames_of(self._in)) if compressed else self._in

    def _external_tables(self, query: Query, session: Session, tables: list[str], refuse: bool) -> None:
        """Take the data packets that follow every query: temporary tables, ended by an empty block."""
        size = 0
        while True:
            packet = self._in.varint()
            if packet not in {DATA, SCALAR}:
                raise ProtocolError(f"a query is followed by packet {packet} instead of its data")
            name = self._in.text(MAX_LOGIN_BYTES)
            plain = self._plain(query.compressed)
            if self._revision >= REVISION_BLOCK_INFO:
                skip_block_info(plain)
            pieces: list[bytes] = []
            plain.tee(_Bounded(pieces, MAX_EXTERNAL_BYTES).take)
            shape = skip_block(plain)
            plain.untee()
            if plain is not self._in and plain.buffered():
                raise ProtocolError("bytes after the end of a block")
            if not shape.columns and packet == DATA:
                return
            if refuse or packet == SCALAR:
                continue
            size += sum(map(len, pieces))
            if size > MAX_EXTERNAL_BYTES:
                raise ProtocolError(f"external tables of more than {MAX_EXTERNAL_BYTES} bytes")
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
        query: Query,
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
        self._send(varint(S_PROFILE), rows, varint(1), size, b"\x00\x00\x00")

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
        query: Query,
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
        self, session: Session, head: sql.Insert, query: Query, settings: dict[str, str]
    ) -> Insertion | None:
        """Pass the client's blocks to the engine until its empty block."""
        feed = _Feed(session, replace(head, format="Native"), settings)
        try:
            while self._next_block(query, feed):
                pass
        except BaseException:
            # The client left or broke the protocol: nothing of an unfinished insert may stay.
            feed.cancel()
            raise
        return feed.finish()

    def _next_block(self, query: Query, feed: _Feed) -> bool:
        packet = self._in.varint()
        if packet == CANCEL:
            feed.fail(ClickHouseError(QUERY_WAS_CANCELLED, "Query was cancelled"))
            return False
        if packet == PING:
            return True
        if packet != DATA:
            raise ProtocolError(f"unexpected packet {packet} in an insert")
        self._in.text(MAX_LOGIN_BYTES)
        plain = self._plain(query.compressed)
        if self._revision >= REVISION_BLOCK_INFO:
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
        info = BLOCK_INFO if self._revision >= REVISION_BLOCK_INFO else b""
        head = varint(S_DATA) + b"\x00"
        if compressed:
            return (head, compression.compress(info + block))
        return (head, info, block)

    def _progress(self, stats: Stats) -> bytes:
        out = varint(S_PROGRESS) + varint(stats.read_rows) + varint(stats.read_bytes) + b"\x00"
        if self._revision >= REVISION_WRITE_INFO:
            out += varint(stats.written_rows) + varint(stats.written_bytes)
        return out

    def _exception(self, error: ClickHouseError) -> bytes:
        text = f"DB::Exception: {error.message}. ({error.name})"
        return b"".join(
            (varint(S_EXCEPTION), struct.pack("<i", error.code), string("DB::Exception"), string(text), b"\x00\x00")
        )


class _Bounded:
    """Collects pieces up to a number of bytes."""

    def __init__(self, pieces: list[bytes], limit: int) -> None:
        self._pieces = pieces
        self._left = limit

    def take(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise ProtocolError("an external table is too large")
        self._pieces.append(piece)


class _Feed:
    """Collects the bytes of blocks and hands them to the engine in large pieces.

    An error of the engine is kept until the client's last block, so that the protocol stays in step.
    """

    def __init__(self, session: Session, head: sql.Insert, settings: dict[str, str]) -> None:
        self._session, self._head, self._settings = session, head, settings
        self._insertion: Insertion | None = None
        self._error: ClickHouseError | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._started = 0
        self._block_bytes = 0

    def begin_block(self) -> None:
        self._started, self._block_bytes = len(self._pieces), 0

    def take(self, piece: bytes) -> None:
        if self._error is not None:
            return
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._block_bytes += len(piece)
        # The client's last, empty block must not reach the engine; it has two bytes.
        if self._bytes >= APPEND_BYTES and self._block_bytes > 2:
            self._flush()
            self._started = 0

    def end_block(self, keep: bool) -> None:
        if not keep:
            del self._pieces[self._started :]

    def fail(self, error: ClickHouseError) -> None:
        self._error = error

    def _flush(self) -> None:
        data, self._pieces, self._bytes = b"".join(self._pieces), [], 0
        if not data or self._error is not None:
            return
        try:
            if self._insertion is None:
                self._insertion = self._session.insert(self._head, self._settings)
            self._insertion.append(data)
        except ClickHouseError as error:
            self._error = error

    def finish(self) -> Insertion | None:
        self._flush()
        if self._error is not None:
            self.cancel()
            raise self._error
        if self._insertion is not None:
            self._insertion.finish()
        return self._insertion

    def cancel(self) -> None:
        if self._insertion is not None:
            self._insertion.cancel()


class NativeServer:
    """Listens and gives every connection a thread."""

    def __init__(
        self, listening: socket.socket, engine: Engine, users: Users, gate: ReadGate, max_connections: int
    ) -> None:
        self._listening = listening
        self._engine = engine
        self._users = users
        self._gate = gate
        self._max_connections = max_connections
        self._watch = Watch()
        self._peers: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="clickhouse-native", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._watch.start()
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                if len(self._peers) >= self._max_connections:
                    log.warning("native connection refused: %s are open", len(self._peers))
                    peer.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(peer,), name="clickhouse-client", daemon=True)
                self._peers[peer] = thread
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            NativeConnection(peer, self._engine, self._users, self._gate, self._watch).serve()
        finally:
            with self._lock:
                self._peers.pop(peer, None)

    def stop(self, grace_s: float) -> None:
        """Stop accepting, end reading on all connections, and wait for statements that run."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(grace_s)
        for peer, thread in self._snapshot():
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RD)
            thread.join(grace_s)
        self._watch.stop()

    def _snapshot(self) -> Iterator[tuple[socket.socket, threading.Thread]]:
        with self._lock:
            return iter([*self._peers.items()])
