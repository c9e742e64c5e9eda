"""The answers: what is asked for, and what is said."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastmta.journal.block import Block

from .health import judge
from .postfix import render_postfix
from .reading import Reader
from .render import CONTENT_TYPE, render

_JSON = "application/json"
_PLAIN = "text/plain; charset=utf-8"
_BEARER = "bearer "


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    target: str  # path, and perhaps a query
    authorization: str


class Answer(NamedTuple):
    """What it gets."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class DeskOptions(NamedTuple):
    """What the configuration says."""

    version: str = ""
    token: str = ""  # that `/metrics` asks for; "": it asks for none
    has_postfix_names: bool = False


class Desk:
    """Answers requests, from the blocks alone."""

    def __init__(
        self, blocks: Sequence[Block], clock_ns: Callable[[], int], options: DeskOptions
    ) -> None:
        """`clock_ns` is monotonic, that of the workers."""
        self._blocks = blocks
        self._clock_ns = clock_ns
        self._options = options
        self._reader = Reader(blocks, options.version)
        self._paths: dict[str, Callable[[Request], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    def answer(self, request: Request) -> Answer:
        """The answer to `request`; of a HEAD the body is left to be dropped."""
        give = self._paths.get(request.target.partition("?")[0])
        if give is None:
            return Answer(404, _PLAIN, b"There are /metrics, /healthz and /readyz.\n")
        if request.method not in ("GET", "HEAD"):
            return Answer(405, _PLAIN, b"Only GET and HEAD.\n", (("Allow", "GET, HEAD"),))
        return give(request)

    def _metrics(self, request: Request) -> Answer:
        token = self._options.token
        if token and not _is_right(request.authorization, token):
            challenge = (("WWW-Authenticate", "Bearer"),)
            return Answer(401, _PLAIN, b"A token is needed.\n", challenge)
        values = self._reader.read(judge(self._blocks, self._clock_ns()))
        text = render(values)
        if self._options.has_postfix_names:
            text += render_postfix(values)
        return Answer(200, CONTENT_TYPE, text.encode())

    def _healthz(self, _: Request) -> Answer:
        health = judge(self._blocks, self._clock_ns())
        if health.is_alive:
            return _json(200, {"status": "ok"})
        return _json(503, {"status": "hung", "reasons": health.reasons})

    def _readyz(self, _: Request) -> Answer:
        health = judge(self._blocks, self._clock_ns())
        if health.is_ready:
            return _json(200, {"status": "ready", "reasons": []})
        return _json(503, {"status": "not ready", "reasons": health.reasons})


def _json(status: int, value: object) -> Answer:
    return Answer(status, _JSON, json.dumps(value).encode() + b"\n")


def _is_right(authorization: str, token: str) -> bool:
    if authorization[: len(_BEARER)].lower() != _BEARER:
        return False
    given = authorization[len(_BEARER) :].encode("utf-8", "replace")
    return hmac.compare_digest(given, token.encode("utf-8", "replace"))
