"""fastmta in the situations, configured like the Postfix of tests.interop.record_situations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmta.lab.loopback import free_port
from tests.support.certificates import Certificates
from tests.support.daemon import Server, running

from .compare import by_situation, comparable_replies
from .play import USERS, certified, listening, naming, talk
from .reports import by_situation as reports_by_situation
from .table import Situation

_QUIET_S = 2.2  # without a line: longer than any time limit below
_LONGEST_S = 15.0
_COMMON: dict[str, str | float | int | list[str]] = {
    "hostname": "mail.example",
    "relay__trusted_networks": ["127.0.0.1/32", "127.0.1.0/24"],
    "limits__errors_hard": 4,
    "limits__errors_soft": 4,
    "limits__idle_s": 1.0,
    "limits__message_octets": 100_000,
    "listen__smtp__tls": "none",
    "delivery__tls": "none",
    "delivery__idle_s": 0.0,
    "retry__jitter": 0.0,
    **{
        f"delivery__timeouts__{name}_s": 1.0
        for name in ("connect", "greeting", "helo", "mail", "rcpt", "data", "block", "dot", "quit")
    },
}
_SETTINGS: dict[str, dict[str, str | float | bool | list[str]]] = {
    "main": {},
    "expire": {
        "retry__first_s": 2.0,
        "retry__max_s": 2.0,
        "retry__lifetime_s": 1.0,
        "retry__bounce_lifetime_s": 1.0,
        "retry__site_backoff_min_s": 0.5,
    },
    "delay": {"notify__delay_s": 1.0, "retry__first_s": 2.0, "retry__max_s": 2.0},
    "secure": {
        "listen__smtp__tls": "may",
        "listen__smtp__login": "offered",
        "auth__users": [f"{name}:{password}" for name, password in USERS.items()],
        "auth__without_tls": True,
        "delivery__tls": "may",
        "delivery__log_tls": True,
        "delivery__allow_addresses": ["127.0.0.0/8"],
        "delivery__family": "ipv4-only",
    },
}

Shown = Mapping[str, Mapping[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of all situations of some servers."""

    shown: Shown  # our lines, replies and reports, by name
    log: str
    records: tuple[bytes, ...]  # the same log as JSON lines
    accepted: int  # messages, as the clients were told
    delivered: int  # recipients, as the receivers saw it


def play_all(directory: Path, situations: Sequence[Situation]) -> Run:
    """Everything, one server for each kind of situation."""
    with ThreadPoolExecutor() as pool:
        runs = pool.map(
            lambda server: play(
                directory / server, [one for one in situations if one.server == server], server
            ),
            _SETTINGS,
        )
    shown: dict[str, Mapping[str, list[str]]] = {}
    log, accepted, delivered = "", 0, 0
    records: tuple[bytes, ...] = ()
    for run in runs:
        shown |= run.shown
        log += run.log
        records += run.records
        accepted += run.accepted
        delivered += run.delivered
    return Run(shown, log, records, accepted, delivered)


def play(directory: Path, situations: Sequence[Situation], server: str) -> Run:
    """The situations of one kind."""
    port = free_port()
    environment: dict[str, str] = {}
    for number, one in enumerate(situations, 1):
        relay = f"FASTMTA_RELAYS__S{one.number}__HOST"
        environment[relay] = one.next_hop(port)
        environment[f"FASTMTA_RELAYS__S{one.number}__TLS"] = one.level if one.tls else "auto"
        environment[f"FASTMTA_ROUTE__{number}__RECIPIENT"] = one.domain  # not what is below it
        environment[f"FASTMTA_ROUTE__{number}__TO"] = f"s{one.number}"
    directory.mkdir()
    json_file = directory / "mail.json"
    settings = {**_COMMON, **_SETTINGS[server], "journal__json_file": str(json_file)}
    certificates = Certificates(directory, "mail.example", *certified(situations))
    with ExitStack() as stack:
        if server == "secure":
            names = stack.enter_context(naming(situations))
            settings |= {
                "dns__servers": ["{}:{}".format(*names.endpoint)],
                "tls__certificate": certificates.right,
                "delivery__ca_file": certificates.trusted,
            }
        receivers = stack.enter_context(listening(situations, port, certificates))
        options: dict[str, Any] = {**settings, "environment": environment}
        with running(directory, **options) as fastmta:
            replies = talk(situations, fastmta.port)
            _wait_for_quiet(fastmta)
        log = fastmta.log_text()
        # A DATA that was sent along with a MAIL that is refused is ended without any content.
        taken = [
            one
            for each in receivers
            for one in each.transactions
            if one.is_accepted and one.wire_content
        ]
        reports = reports_by_situation(receivers, situations, port)
    lines = by_situation(log, situations, port)
    shown = {
        one.name: {
            "lines": lines[one.name],
            "replies": comparable_replies(replies[one.name], port),
            "reports": reports[one.name],
        }
        for one in situations
    }
    told = sum("queued as" in reply for each in replies.values() for reply in each)
    records = tuple(json_file.read_bytes().split(b"\n")[:-1])
    return Run(shown, log, records, told, sum(len(one.forward_paths) for one in taken))


def _wait_for_quiet(server: Server) -> None:
    """Until nothing more is written."""
    deadline = time.monotonic() + _LONGEST_S
    size, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = len(server.log_text())
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > _QUIET_S:
            return
        time.sleep(0.05)


def differences(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[str], list[str]]:
    """What only we, and what only they have."""
    mine, yours = Counter(ours), Counter(theirs)
    return sorted((mine - yours).elements()), sorted((yours - mine).elements())
