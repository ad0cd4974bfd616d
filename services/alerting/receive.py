"""A receiver for trying and for tests: takes signed calls on this machine, verifies them, notes them.

``python -m services.alerting.receive --port 9099 --secret file:/path`` prints a line for each call. Whoever writes a
receiver can take `Inbox.take` as an example: verify the signature over the bytes as they came, refuse what is older or
newer than five minutes, and act on an id once.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from standardwebhooks import Webhook, WebhookVerificationError

from services.alerting.delivery.secret import read_secret

MOST_BODY_BYTES: Final = 1_000_000
MOST_IDS: Final = 100_000
QUIET_S: Final = 15


class Taken(IntEnum):
    """What is answered, as an HTTP status."""

    NOTED = 200
    REPEAT = 208
    """An id that was noted before: answered as a success, or the sender would repeat it for days, and not acted on."""
    REFUSED = 401
    """Not signed with a secret of ours, altered, or not of the last five minutes."""


@dataclass(frozen=True, slots=True)
class Received:
    """A verified call."""

    id: str
    kind: str
    """``touchstone.alert.firing`` or ``touchstone.alert.resolved``."""
    document: Mapping[str, Any]
    """`services.alerting.document.Document` as JSON."""


@dataclass
class Inbox:
    """What was received. Its methods may be called from several threads."""

    secrets: Sequence[str]
    """``whsec_...``; any of them may have signed."""
    calls: list[Received] = field(default_factory=list)
    repeats: int = 0
    refusals: list[str] = field(default_factory=list)
    """Why calls were refused."""
    noted: Callable[[Received], None] | None = None
    """Told of each call that is noted, in the thread that took it."""
    _ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, headers: Mapping[str, str], body: bytes) -> Taken:
        """Verify a call and note it once."""
        why = "no secret"
        for secret in self.secrets:
            try:
                Webhook(secret).verify(body, dict(headers), json_parse=False)
                break
            except (WebhookVerificationError, ValueError) as error:
                why = str(error)
        else:
            with self._lock:
                self.refusals.append(why)
            return Taken.REFUSED
        call_id = {name.lower(): value for name, value in headers.items()}["webhook-id"]
        message = json.loads(body)
        with self._lock:
            if call_id in self._ids:
                self.repeats += 1
                return Taken.REPEAT
            self._ids[call_id] = None
            if len(self._ids) > MOST_IDS:
                self._ids.popitem(last=False)
            received = Received(call_id, message["type"], message["data"])
            self.calls.append(received)
        if self.noted is not None:
            self.noted(received)
        return Taken.NOTED


@contextmanager
def serving(inbox: Inbox, port: int = 0) -> Iterator[str]:
    """Take calls on 127.0.0.1 while the block runs; gives the address to post to. Port 0: any that is free."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(inbox))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/calls"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = QUIET_S

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BODY_BYTES:
                self.close_connection = True
                self._answer(413)
                return
            body = self.rfile.read(int(length))
            if len(body) < int(length):  # the sender went away: it comes again
                self.close_connection = True
                return
            self._answer(inbox.take(dict(self.headers.items()), body).value)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """What is noted is told by `Inbox.noted`."""

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def _print(received: Received) -> None:
    sys.stdout.write(f"{received.kind} {received.id} {received.document['summary']!a}\n")
    sys.stdout.flush()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Take signed calls on this machine and print them.")
    parser.add_argument("--port", type=int, default=9099)
    parser.add_argument("--secret", action="append", required=True, help="file:/path or env:NAME; twice for two")
    arguments = parser.parse_args()
    inbox = Inbox([read_secret(reference, "--secret") for reference in arguments.secret], noted=_print)
    with serving(inbox, arguments.port) as url:
        sys.stdout.write(f"taking calls at {url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
