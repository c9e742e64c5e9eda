"""The table of situations. Each has its own addresses, so that all can happen at the same time.

Situation n has the domain `s<n>.example`, whose mail goes to 127.0.2.n, where its receiver listens
(and, with `hosts = 2`, to 127.0.4.n after that); its client comes from 127.0.1.n, which is trusted,
or as a stranger from 127.0.3.n.

    say        lines that the client says, each after the reply to the one before:
               "@content" a message with its dot, "@content N" one of about N octets,
               "@part" a line of content, "@bare" a message without Message-ID,
               "@hang" waits until the server closes, "@close" and "@reset" end the connection,
               "+LINE" is said without waiting for a reply. Without `say`: one message to `to`.
    receiver   by session, acts by stage (see tests.support.receiver): a reply, or a table with
               `say`, `then`, `after_octets`; the last one's are those of all that follow, except
               for stages like `RCPT/1`, which are once for all; "none": nobody listens
    dns        records, `NAME TYPE DATA` or `NAME SERVFAIL`; the mail of s<n>.example goes where
               they say, not to the receiver's address ({h}) by itself; for server "secure", where
               nowhere.s<n>.example has no route: its mail is looked up and goes to port 25
    tls        the certificate of a receiver that offers STARTTLS: "right", "self_signed",
               "wrong_name"; "" offers none; for server "secure"
    level      what is asked of the receiver's TLS: "may", "encrypt", "verify"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.receiver import Act

FILE = Path(__file__).parents[2] / "vectors" / "situations.toml"
COUNT_MAX = 250
_KEYS = frozenset(
    (
        *("name", "say", "to", "sender", "receiver", "stranger", "hosts", "server", "repeat"),
        *("dns", "tls", "level"),
    )
)


@dataclass(frozen=True, slots=True)
class Situation:
    """One row."""

    number: int
    name: str
    say: tuple[str, ...]
    scripts: tuple[tuple[dict[str, Act | list[Act]], ...], ...]  # of each host, by session
    is_stranger: bool
    server: str  # which of the servers it is about: "main", "expire", "delay", "secure"
    dns: tuple[str, ...] = ()
    tls: str = ""
    level: str = "may"

    @property
    def domain(self) -> str:
        return f"s{self.number}.example"

    @property
    def client(self) -> str:
        return f"127.0.{3 if self.is_stranger else 1}.{self.number}"

    @property
    def hosts(self) -> list[str]:
        return [f"127.0.{part}.{self.number}" for part in (2, 4)[: len(self.scripts)]]

    def next_hop(self, port: int) -> str:
        """Where its mail goes."""
        if any(one.startswith(f"{self.domain} ") for one in self.dns):
            return f"{self.domain}:{port}"
        return ", ".join(f"[{host}]:{port}" for host in self.hosts)

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return any(self.scripts)


def load(file: Path = FILE) -> list[Situation]:
    rows = tomllib.loads(file.read_text())["situation"]
    assert len(rows) <= COUNT_MAX
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names), "names are keys"
    return [_situation(number, row) for number, row in enumerate(rows, 1)]


def _situation(number: int, row: dict[str, Any]) -> Situation:
    assert row.keys() <= _KEYS, f"{row['name']}: {row.keys() - _KEYS}"
    given = row.get("receiver", [{}])
    per_host = given if given and isinstance(given[0], list) else [given]
    if given == "none":
        per_host = [[]]
    hosts = row.get("hosts", 1)
    per_host += [[{}]] * (hosts - len(per_host))
    scripts = tuple(_sessions(sessions) for sessions in per_host)
    domain = f"s{number}.example"
    sender = row.get("sender", "s@{d}")
    say = row.get("say") or _usual(sender, row.get("to", ["r"]))
    said = tuple(line.replace("{d}", domain) for line in say)
    stranger, server = row.get("stranger", False), row.get("server", "main")
    records = (one.replace("{d}", domain) for one in row.get("dns", ()))
    dns = tuple(one.replace("{h}", f"127.0.2.{number}") for one in records)
    tls, level = row.get("tls", ""), row.get("level", "may")
    return Situation(number, row["name"], said, scripts, stranger, server, dns, tls, level)


def _usual(sender: str, to: list[str]) -> list[str]:
    recipients = [f"RCPT TO:<{one}{'' if '@' in one else '@{d}'}>" for one in to]
    opening = ["EHLO client.example", f"MAIL FROM:<{sender}>"]
    return [*opening, *recipients, "DATA", "@content", "QUIT"]


def _sessions(given: list[dict[str, Any]]) -> tuple[dict[str, Act | list[Act]], ...]:
    """Those of a host; what happens once (`RCPT/1`) is not said again in the next session."""
    if given and any(stage.endswith("/1") for stage in given[-1]):
        given = [*given, {}]
    return tuple(_script(one) for one in given)


def _script(stages: dict[str, Any]) -> dict[str, Act | list[Act]]:
    return {
        stage: [_act(one) for one in given] if isinstance(given, list) else _act(given)
        for stage, given in stages.items()
    }


def _act(given: str | dict[str, Any]) -> Act:
    if isinstance(given, str):
        return Act(_octets(given))
    said = given.get("say")
    octets = None if said is None else _octets(said)
    return Act(octets, then=given.get("then", ""), after_octets=given.get("after_octets", 0))


def _octets(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode() + b"\r\n"
