"""The control protocol: JSON objects, one a line.

    server   {"fastmta": "0.1.0", "protocol": 1, "worker": 0, "shards": [0], "pid": 7}   at once
    client   {"id": 1, "verb": "hold", "filter": "dest:example.com"}
    server   {"id": 1, "progress": {"matched": 500, "done": 500, ...}}                    any number
    server   {"id": 1, "result": {...}}      or     {"id": 1, "error": {"code": ..., "text": ...}}

Operations (hold, release, delete, requeue, expire, flush) want exactly one of `ids`, `filter` and
`all`.
New fields may come with any release; `protocol` changes when an old client could misunderstand.
"""

from __future__ import annotations

import enum
from typing import Any
from urllib.parse import unquote

import msgspec

LINE_OCTETS_MAX = 64 * 1024  # of a request
IDS_MAX = 500
LIMIT_MAX = 200
WAIT_MAX_S = 60.0


class Verb(enum.Enum):
    """What can be asked for."""

    HOLD = "hold"
    RELEASE = "release"
    DELETE = "delete"
    REQUEUE = "requeue"
    EXPIRE = "expire"
    FLUSH = "flush"
    LIST = "list"
    CENSUS = "census"
    CONTENT = "content"
    FIND = "find"
    SEARCH = "search"
    COUNT = "count"
    NEXT_DUE = "next-due"
    SUMMARY = "summary"
    EXPLAIN = "explain"
    SITES = "sites"
    CONCERN = "concern"
    RESHAPE = "reshape"
    STATUS = "status"
    TAIL = "tail"
    COUNTERS = "counters"
    CANCEL = "cancel"


class ErrorCode(enum.Enum):
    """Why a request was not done."""

    USAGE = "usage"  # it makes no sense; asking again will not help
    TEMPORARY = "temporary"  # later it may be done
    DENIED = "denied"  # not for this user
    DEFECT = "defect"  # our fault; the log has more


class Refusal(Exception):
    """A request that is not done."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One request."""

    id: int = 0
    verb: Verb
    # At most IDS_MAX; msgspec makes a new list for each. tail: what lines must hold one of.
    ids: list[str] = []
    filter: str | None = None
    all: bool = False
    dry_run: bool = False  # count, and change nothing
    with_failed: bool = False  # requeue
    is_detached: bool = False  # flush: answer at once, and go on
    wait_s: float = 10.0  # for the end of an attempt that is under way
    limit: int = 100  # search, count, sites
    newest: bool = False  # list: pages from the newest message to the oldest
    # search: the page behind this id; list: behind `SHARD/ID`; sites: behind this `order`
    after: str = ""
    next_hop: str = ""  # count, next-due
    # explain: what; concern: a selector; sites: "busy", see there; flush: whose pauses end
    subject: str = ""
    request: int = 0  # cancel: which one


_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


def decode_request(line: bytes) -> Request:
    """The request of a line. Raises Refusal."""
    try:
        request = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Refusal(ErrorCode.USAGE, f"not a request: {problem}") from None
    if len(request.ids) > IDS_MAX:
        raise Refusal(ErrorCode.USAGE, f"at most {IDS_MAX} ids in one request")
    request.limit = min(max(request.limit, 1), LIMIT_MAX)
    request.wait_s = min(max(request.wait_s, 0.0), WAIT_MAX_S)
    return request


def encode_request(request: Request) -> bytes:
    """The line of a request, without its end."""
    return _encode(request)


def encode_line(value: dict[str, Any]) -> bytes:
    """One line; `value` is made of what JSON knows."""
    return _encode(value) + b"\n"


def text_of(octets: bytes) -> str:
    """Octets of an address or name, for people."""
    return octets.decode("utf-8", "backslashreplace")


def hop_text(next_hop: str) -> str:
    """The text form of a next hop (`fastmta.route.hop`), for people: `mail.example, relay second`.

    Transports without a peer stand as they are.
    """
    if not next_hop.startswith(("smtp:", "lmtp:")):
        return next_hop
    plain, _, owner = next_hop.removeprefix("smtp:").partition(" for ")
    place, _, way = plain.partition("#")
    way, _, need = way.partition("!")
    name, _, login = way.partition("/")
    parts = [place]
    if name not in ("", "-"):
        parts.append(f"relay {name}")
    if login:
        parts.append(f"login {_shown(login)}")
    if need:
        parts.append(need.upper())
    if owner:
        parts.append(f"tenant {_shown(owner)}")
    return ", ".join(parts)


def _shown(quoted: str) -> str:
    """What was percent-encoded, unless it holds what no terminal should be given."""
    text = unquote(quoted, errors="backslashreplace")
    return text if text.isprintable() else quoted
