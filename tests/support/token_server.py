"""An OAuth 2 server over HTTPS on loopback that answers as it is told."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
import urllib.parse
from typing import Any

from tests.support.tls import authority


class TokenServer:
    """`answers`: what the next requests get, the last one again and again: (status, body).

    A body that is a dict is sent as JSON. `forms` are the requests, `drip_s` the pause before each
    octet of a body.
    """

    def __init__(self, *names: str) -> None:
        self.answers: list[tuple[int, Any]] = [(200, good("token-1"))]
        self.forms: list[dict[str, str]] = []
        self.drip_s = 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                form = urllib.parse.parse_qsl(self.rfile.read(size).decode(), strict_parsing=True)
                outer.forms.append(dict(form))
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *arguments: object) -> None:
                """Clients that leave are part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}/oauth2/token?v=2"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        if status in (301, 307):
            handler.send_header("Location", self.endpoint)
        handler.send_header("Content-Length", str(len(octets)))
        handler.end_headers()
        if not self.drip_s:
            handler.wfile.write(octets)
            return
        for octet in octets:
            time.sleep(self.drip_s)
            handler.wfile.write(bytes([octet]))
            handler.wfile.flush()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def good(token: str, **more: object) -> dict[str, object]:
    """A good answer; with a value of None a field is left out."""
    fields = {"access_token": token, "token_type": "Bearer", "expires_in": 3600} | more
    return {name: value for name, value in fields.items() if value is not None}
