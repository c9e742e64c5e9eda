"""The keys of those who run it: logs, control, processes."""

import re
from dataclasses import dataclass
from typing import Annotated

from .address import Socket
from .key import Key
from .kind import (
    Choice,
    FilePath,
    Flag,
    Integer,
    Kind,
    Listing,
    Octets,
    Seconds,
    Word,
    plain_text,
)
from .target import Secret

_UDP = "udp://"
_FACILITIES = ("mail", "user", "daemon", *(f"local{number}" for number in range(8)))


class SyslogPlace(Kind):
    """Where a syslog daemon listens."""

    shape = "path of a unix socket, or `udp://address:port`"

    def check(self, value: object) -> str:
        place = plain_text(value)
        if place.startswith(_UDP):
            Socket().check(place.removeprefix(_UDP))
        elif not place.startswith("/"):
            raise ValueError(f'"{place}" is neither an absolute path nor udp://address:port')
        return place


class Account(Kind):
    """Somebody of this machine."""

    shape = "user or `@group`, by name or number"

    def check(self, value: object) -> str:
        name = plain_text(value)
        if not re.fullmatch(r"@?[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", name):
            raise ValueError(f'"{name}" is no name of a user or, with @ in front, of a group')
        return name


def syslog_address(place: str) -> str | tuple[str, int]:
    """Where a checked `SyslogPlace` is: a path, or address and port."""
    if not place.startswith(_UDP):
        return place
    return Socket().check(place.removeprefix(_UDP))


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The mail log: events as lines that tools for Postfix read, or as JSON (docs/logs.md)."""

    target: Annotated[
        str,
        Key(
            Choice("file", "syslog", "journald"),
            "Where lines go. A daemon that is slow or gone holds up nothing: lines wait for it in "
            "memory, and what is too much is dropped and counted.",
        ),
    ] = "file"
    file: Annotated[
        str,
        Key(
            FilePath(may_be_dash=True),
            'With target `file`: path of the log, reopened on USR1; "-" is standard output.',
        ),
    ] = "-"
    syslog: Annotated[
        str, Key(SyslogPlace(), "With target `syslog`: where the daemon listens.")
    ] = "/dev/log"
    facility: Annotated[
        str,
        Key(Choice(*_FACILITIES), "Facility of the lines, with targets `syslog` and `journald`."),
    ] = "mail"
    syslog_name: Annotated[
        str, Key(Word(), "First part of the program names: `postfix/smtpd`. Log tools look for it.")
    ] = "postfix"
    format: Annotated[
        str,
        Key(
            Choice("postfix", "json"),
            "Shape of the lines: `postfix` is that of Postfix 3.7, `json` one JSON object each.",
        ),
    ] = "postfix"
    json_file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Path of a second log, always of JSON lines, reopened on USR1; empty: none.",
        ),
    ] = ""
    anonymise: Annotated[
        str,
        Key(
            Choice("no", "smart", "paranoid", "hash"),
            "What becomes of mail addresses in every line: `smart` makes d*o@*******.org of "
            "demo@example.org, `paranoid` *@*.org, `hash` a number that is the same each time.",
        ),
    ] = "no"
    anonymise_salt: Annotated[
        str, Key(Secret(), "Key of the numbers of `hash`; whoever knows it can try addresses.")
    ] = ""
    anonymise_clients: Annotated[
        bool,
        Key(
            Flag(),
            "Whether clients are shown by their network only (192.0.2.0 for a /24, /48 of IPv6), "
            "without a name. Programs that ban clients by the log cannot, then.",
        ),
    ] = False
    history_octets: Annotated[
        int,
        Key(
            Octets(0, 1 << 40),
            "While lines go to standard output: room for the latest of them, for each worker, in "
            "`history` below the spool's directory, where `fastmta trace` finds them. 0: none.",
        ),
    ] = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Where the server takes orders of its operator."""

    directory: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Directory of the workers' control sockets; empty: that of the spool.",
        ),
    ] = ""
    mailq_users: Annotated[
        str,
        Key(
            Choice("owner", "all"),
            "Who may list the queue (`mailq`): root and the server's user, or `all` who can reach"
            " `directory`.",
        ),
    ] = "owner"
    users: Annotated[
        tuple[str, ...],
        Key(
            Listing(Account()),
            "Who may do everything over the sockets, besides root and the server's user, who always"
            " may. `directory` must be one that they can reach.",
        ),
    ] = ()
    readers: Annotated[
        tuple[str, ...],
        Key(
            Listing(Account()),
            "Who may only look: at the queue, destinations, state and log, not at the content of"
            " mail.",
        ),
    ] = ()

    @property
    def is_shared(self) -> bool:
        """Whether others than root and the server's user have to come to the directory."""
        return bool(self.users or self.readers) or self.mailq_users == "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The processes that do the work."""

    count: Annotated[int, Key(Integer(0, 256), "How many; 0 means one per core.")] = 0
    stop_deadline_s: Annotated[
        float, Key(Seconds(0, 3600), "How long a stop waits for what is in flight.")
    ] = 30.0
