"""HTTP sessions that clients name by `session_id`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.embedded.clickhouse import request
from infra.embedded.clickhouse.access import Login
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import SESSION_IS_LOCKED, SESSION_NOT_FOUND, ClickHouseError
from infra.embedded.clickhouse.session import Session

MAX_SESSIONS: Final = 1000


@dataclass(slots=True)
class _Kept:
    session: Session
    lock: threading.Lock
    expires_s: float
    timeout_s: float


class Sessions:
    """Sessions that clients name by `session_id`; each ends when unused for its timeout."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._lock = threading.Lock()

    def take(self, login: Login, asked: request.Request) -> tuple[Session, Callable[[], None]]:
        """The session for a request, and what gives it back. Raises ClickHouseError 372, 373."""
        name = asked.parameters.get("session_id", "")
        if not name:
            session = self._engine.session(login.reader, asked.database)
            return session, session.close
        kept = self._named((login.user, name), login, asked)
        if not kept.lock.acquire(blocking=False):
            raise ClickHouseError(SESSION_IS_LOCKED, f"Session {name[:64]} is locked by a concurrent client")

        def give_back() -> None:
            kept.expires_s = time.monotonic() + kept.timeout_s
            kept.lock.release()

        try:
            if asked.database:
                kept.session.use(asked.database)
        except ClickHouseError:
            give_back()
            raise
        return kept.session, give_back

    def _named(self, key: tuple[str, str], login: Login, asked: request.Request) -> _Kept:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                if asked.flag("session_check"):
                    raise ClickHouseError(SESSION_NOT_FOUND, f"Session {key[1][:64]} not found")
                if len(self._kept) >= MAX_SESSIONS:
                    raise ClickHouseError(SESSION_IS_LOCKED, "Too many sessions are open")
                kept = _Kept(self._engine.session(login.reader), threading.Lock(), 0.0, 0.0)
                self._kept[key] = kept
            kept.timeout_s = asked.session_timeout_s
            kept.expires_s = time.monotonic() + kept.timeout_s
            return kept

    def expire(self, everything: bool = False) -> None:
        """Close sessions whose time is over (or all that are free)."""
        now_s = time.monotonic()
        with self._lock:
            for key, kept in [*self._kept.items()]:
                if (everything or kept.expires_s < now_s) and kept.lock.acquire(blocking=False):
                    kept.session.close()
                    del self._kept[key]
