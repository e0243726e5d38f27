"""A webhook in this process: checks each signature, keeps each message with the time it came."""

import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "0123456789abcdef-of-the-test"


class Hook:
    """Answer on a port of its own while entered; `refusals` answers are errors first."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.arrived: list[float] = []
        self.requests = 0
        self.refusals = 0
        self._changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signed = self.headers["X-Keeper-Timestamp"].encode() + b"." + body
                expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
                genuine = self.headers["X-Keeper-Signature"] == f"sha256={expected}"
                self.send_response(hook.take(body) if genuine else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Say nothing of a keeper that was killed while it spoke."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def take(self, body: bytes) -> int:
        now = time.monotonic()
        with self._changed:
            self.requests += 1
            if self.refusals:
                self.refusals -= 1
                return 503
            told = json.loads(body)["notes"]
            self.notes += told
            self.arrived += [now] * len(told)
            self._changed.notify_all()
        return 200

    def until(self, count: int, seconds: float = 60.0) -> None:
        """Wait for so many messages."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self.notes) >= count, seconds)
            assert there, f"{len(self.notes)} of {count} messages came"

    @property
    def table(self) -> str:
        """Return the settings of a channel `desk` that leads here."""
        port = self._server.server_address[1]
        return (
            f'[notify.channels.desk]\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/hook"\n'
            f'secret = "{SECRET}"\n'
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
